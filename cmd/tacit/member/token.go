// SPDX-License-Identifier: Apache-2.0

package member

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "create join tokens",
		Example: "  tacit token create --node host2",
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.NeedVerb,
	}
	cmd.AddCommand(e.tokenCreate())
	return cmd
}

func (e *env) tokenCreate() *cobra.Command {
	var r api.TokenRequest
	var node string
	var services []string
	cmd := &cobra.Command{
		Use:   "create --node NAME",
		Short: "print a single-use join token",
		Long: "Print a single-use join token for the node with this name. The token is a secret\n" +
			"until it is used: write it to a file that only root can read.",
		Example: "  tacit token create --node host2 --service db > token\n" +
			"  tacit token create --node host3 --service web --service api --ttl 1h",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("ttl") && r.TTL <= 0 {
				return fmt.Errorf("--ttl %s: must be positive", r.TTL)
			}
			r.Node, r.Services = api.Name(node), cli.Names(services)
			t, err := e.Daemon().CreateToken(cmd.Context(), r)
			if err != nil {
				return err
			}
			return e.Print(t, func(w io.Writer) {
				fmt.Fprintln(w, t.Token)
				fmt.Fprintf(e.Stderr, "for node %s, services: %s, until %s\n", t.Node, text.OrDash(text.List(t.Services)), t.Expires.UTC().Format(time.RFC3339))
			})
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "name of the node that may join with the token")
	cmd.Flags().StringSliceVar(&services, "service", nil, "service or ingress/NAME that the node may run; repeatable")
	cmd.Flags().DurationVar(&r.TTL, "ttl", 0, "how long the token is valid (default 15m)")
	usage.Required(cmd, "node")
	return cmd
}
