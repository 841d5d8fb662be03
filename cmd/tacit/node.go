// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tacit/node/api"
)

func (e *env) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "members of the mesh: address, liveness, role, policy, grants",
		Example: "  tacit nodes\n" +
			"  tacit nodes --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := e.daemon().Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return e.print(nodes, func(w io.Writer) {
				t := newTable("NODE", "ADDRESS", "STATE", "ROLE", "POLICY", "GRANTS")
				for _, n := range nodes {
					t.row(n.Name, n.Address, nodeState(n), nodeRole(n), orDash(n.PolicyDigest), orDash(list(n.Grants)))
				}
				t.print(w)
			})
		},
	}
}

func (e *env) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "show, grant to, or revoke one node",
		Example: "  tacit node show host2",
		Args:    cobra.ArbitraryArgs,
		RunE:    needVerb,
	}
	cmd.AddCommand(e.nodeShow(), e.nodeGrant(), e.nodeRevoke())
	return cmd
}

func (e *env) nodeShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show NODE",
		Short:   "one member with all its fields",
		Example: "  tacit node show host2",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := e.daemon().Node(cmd.Context(), api.Name(args[0]))
			if err != nil {
				return err
			}
			return e.print(n, func(w io.Writer) { printNode(w, *n) })
		},
	}
}

func (e *env) nodeGrant() *cobra.Command {
	var r api.GrantRequest
	var services []string
	cmd := &cobra.Command{
		Use:   "grant NODE",
		Short: "let a node run services",
		Long: "Let a node run services. The grant is signed with this node's operator key.\n" +
			"Withdrawing it cuts the node's streams of that service.",
		Example: "  tacit node grant host2 --service db\n" +
			"  tacit node grant host2 --service db --withdraw",
		Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Node, r.Services = api.Name(args[0]), names(services)
			return e.nodeChanged(e.daemon().GrantNode(cmd.Context(), r))
		},
	}
	cmd.Flags().StringSliceVar(&services, "service", nil, "service to grant; repeatable")
	cmd.Flags().BoolVar(&r.Withdraw, "withdraw", false, "withdraw the grant")
	required(cmd, "service")
	return cmd
}

func (e *env) nodeRevoke() *cobra.Command {
	var r api.RevokeRequest
	cmd := &cobra.Command{
		Use:   "revoke NODE",
		Short: "end a node's membership: its key is refused from now on",
		Long: "End a node's membership: its key is refused from now on. The host can be a\n" +
			"member again with an empty state directory and a new token.",
		Example: "  tacit node revoke host3\n" +
			"  tacit node revoke host3 --reason \"disk stolen\"",
		Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Node = api.Name(args[0])
			return e.nodeChanged(e.daemon().RevokeNode(cmd.Context(), r))
		},
	}
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why; recorded with the revocation")
	return cmd
}

func (e *env) nodeChanged(r *api.NodeResult, err error) error {
	if err != nil {
		return err
	}
	return e.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, grants: %s\n", r.Node.Name, nodeState(r.Node), orDash(list(r.Node.Grants)))
		for _, note := range r.Notes {
			fmt.Fprintln(w, oneLine(note))
		}
	})
}

func printNode(w io.Writer, n api.Node) {
	t := newTable()
	t.field("node", n.Name)
	t.field("id", n.ID)
	t.field("address", n.Address)
	t.field("state", nodeState(n))
	t.field("role", nodeRole(n))
	t.field("policy", orDash(n.PolicyDigest))
	t.field("version", n.Version)
	for _, g := range n.Grants {
		t.row("grant", g)
	}
	t.print(w)
}

func nodeState(n api.Node) string {
	switch {
	case n.Revoked:
		return "revoked"
	case n.Local:
		return "alive (this)"
	case n.Alive:
		return "alive"
	}
	return "dead"
}

// nodeRole says which keys of the mesh a node holds.
func nodeRole(n api.Node) string {
	var roles []string
	if n.Authority {
		roles = append(roles, "authority")
	}
	if n.Operator {
		roles = append(roles, "operator")
	}
	return orDash(list(roles))
}
