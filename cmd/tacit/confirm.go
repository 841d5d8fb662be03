// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "keep the changes that a start with tacitd --confirm made",
		Long: "Keep the changes that a start with tacitd --confirm made. Unconfirmed changes are\n" +
			"undone after that time, so that an operator who is locked out gets back in.",
		Example: "  tacit confirm",
		Args:    usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := e.Daemon().Confirm(cmd.Context(), api.ConfirmRequest{})
			if err != nil {
				return err
			}
			return e.Print(out, func(w io.Writer) { printConfirmed(w, out) })
		},
	}
}

func printConfirmed(w io.Writer, r *api.ConfirmResult) {
	if !r.Confirmed {
		fmt.Fprintln(w, "nothing to confirm: tacitd runs without --confirm, or was confirmed before")
		return
	}
	fmt.Fprintln(w, "confirmed; this stays until tacit cleanup:")
	for _, line := range r.Permanent {
		fmt.Fprintln(w, "  "+table.OneLine(line))
	}
}
