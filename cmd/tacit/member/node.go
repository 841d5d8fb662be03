// SPDX-License-Identifier: Apache-2.0

// Package member has the nouns for members of the mesh: nodes, node and token. It must
// not decide anything: it asks the daemon.
package member

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

// Commands are the nouns of this package; verbs are more of the noun node.
func Commands(e *cli.Env, verbs ...*cobra.Command) []*cobra.Command {
	n := &env{e}
	node := n.nodeCommand()
	node.AddCommand(verbs...)
	return []*cobra.Command{n.nodesCommand(), node, n.tokenCommand()}
}

type env struct{ *cli.Env }

func (e *env) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "members of the mesh: address, liveness, role, policy, grants",
		Example: "  tacit nodes\n" +
			"  tacit nodes --json",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := e.Daemon().Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return e.PrintList("nodes", nodes, func(w io.Writer) {
				e.printNodes(w, nodes)
			})
		},
	}
}

// printNodes shows digests only where live nodes have different ones.
func (e *env) printNodes(w io.Writer, nodes []api.Node) {
	digests := map[string]bool{}
	for _, n := range nodes {
		if n.Alive {
			digests[n.PolicyDigest] = true
		}
	}
	header := []any{"NODE", "ADDRESS", "STATE", "ROLE", "POLICY", "GRANTS"}
	if len(digests) < 2 {
		header = slices.Delete(header, 4, 5)
	}
	t := table.New(header...)
	for _, n := range nodes {
		row := []any{n.Name, n.Address, nodeState(n), nodeRole(n), text.OrDash(n.PolicyDigest), text.OrDash(text.List(n.Grants))}
		if len(digests) < 2 {
			row = slices.Delete(row, 4, 5)
		}
		t.Row(row...)
	}
	t.Print(w, e.Width)
}

func (e *env) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "show, grant to, or revoke one node",
		Example: "  tacit node show host2",
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.NeedVerb,
	}
	cmd.AddCommand(e.nodeShow(), e.nodeGrant())
	return cmd
}

func (e *env) nodeShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show NODE",
		Short:   "one member with all its fields",
		Example: "  tacit node show host2",
		Args:    usage.Takes("NODE"), ValidArgsFunction: e.CompleteNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := e.Daemon().Node(cmd.Context(), api.Name(args[0]))
			if err != nil {
				return err
			}
			return e.Print(n, func(w io.Writer) { e.printNode(w, *n) })
		},
	}
}

func (e *env) nodeGrant() *cobra.Command {
	var r api.GrantRequest
	var services []string
	cmd := &cobra.Command{
		Use:   "grant NODE",
		Short: "let a node run services",
		Long: "Let a node run services and ingresses. The grant is signed with this node's operator key.\n" +
			"Withdrawing it cuts the node's streams of that service. Only real names and\n" +
			"addresses in a grant mean its outside service everywhere; with --outside,\n" +
			"--withdraw withdraws only these.",
		Example: "  tacit node grant host2 --service db\n" +
			"  tacit node grant host2 --service db --withdraw\n" +
			"  tacit node grant host2 --service ingress/public",
		Args: usage.Takes("NODE"), ValidArgsFunction: e.CompleteNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Node, r.Services = api.Name(args[0]), cli.Names(services)
			return e.nodeChanged(e.Daemon().GrantNode(cmd.Context(), r))
		},
	}
	cmd.Flags().StringSliceVar(&services, "service", nil, "service or ingress/NAME to grant; repeatable")
	cmd.Flags().StringSliceVar(&r.Outside, "outside", nil, "real name or address that the service may stand for; repeatable")
	cmd.Flags().BoolVar(&r.Withdraw, "withdraw", false, "withdraw the grant")
	usage.Required(cmd, "service")
	return cmd
}

func (e *env) nodeChanged(r *api.NodeResult, err error) error {
	if err != nil {
		return err
	}
	return e.Print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, grants: %s\n", r.Node.Name, nodeState(r.Node), text.OrDash(text.List(r.Node.Grants)))
		for _, note := range r.Notes {
			fmt.Fprintln(w, table.OneLine(note))
		}
	})
}

func (e *env) printNode(w io.Writer, n api.Node) {
	t := table.New()
	t.Field("node", n.Name)
	t.Field("id", n.ID)
	t.Field("address", n.Address)
	t.Field("state", nodeState(n))
	t.Field("role", nodeRole(n))
	t.Field("policy", text.OrDash(n.PolicyDigest))
	t.Field("version", n.Version)
	for _, k := range n.Keys {
		t.Row("key", fmt.Sprintf("%s %s, %s", k.Short(), k.Kind, k.State))
	}
	for _, g := range n.Grants {
		t.Row("grant", table.OneLine(strings.TrimSpace(string(g)+" "+text.List(n.Outside[g]))))
	}
	t.Print(w, e.Width)
}

func nodeState(n api.Node) string {
	switch {
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
	return text.OrDash(text.List(roles))
}
