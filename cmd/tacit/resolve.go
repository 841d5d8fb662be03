// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) resolveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resolve NAME",
		Short: "the mesh's answer for a name, and why",
		Example: "  tacit resolve db\n" +
			"  tacit resolve db.service.consul --json",
		Args:              usage.Takes("NAME"),
		ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := e.Daemon().Resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return e.Print(r, func(w io.Writer) { e.printResolution(w, r) })
		},
	}
}

func (e *env) printResolution(w io.Writer, r *api.Resolution) {
	t := table.New()
	t.Field("name", r.Name)
	t.Field("service", text.OrDash(string(r.Service)))
	t.Field("addresses", text.Addresses(r.Virtual4, r.Virtual6))
	t.Field("ports", strings.Trim(fmt.Sprint(r.Ports), "[]"))
	t.Field("why", r.Why)
	t.Print(w, e.Width)
}
