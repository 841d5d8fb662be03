// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "which nodes may change policy",
		Long: "Which nodes hold an operator key, with which intentions, grants and revocations are\n" +
			"signed. A node makes its own key, which never leaves it; an operator signs for it.",
		Example: "  tacit operator list\n" +
			"  tacit operator request\n" +
			"  tacit operator add host2 --key LINE",
		Args: cobra.ArbitraryArgs,
		RunE: cli.NeedVerb,
	}
	for _, sub := range []*cobra.Command{e.operatorList(), e.operatorRequest(), e.operatorAdd(), e.operatorRemove()} {
		sub.Example = "  tacit operator " + sub.Example
		cmd.AddCommand(sub)
	}
	return cmd
}

func (e *env) operatorList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "operators' keys, with the node that holds each",
		Example: "list",
		Args:    usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := e.Daemon().Keys(cmd.Context())
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(k api.Key) bool { return k.Kind != api.KeyOperator })
			return e.PrintList("operators", all, func(w io.Writer) { show.Keys(w, all, e.Width) })
		},
	}
}

func (e *env) operatorRequest() *cobra.Command {
	return &cobra.Command{
		Use:   "request",
		Short: "make this node's operator key, and print the line that an operator needs",
		Long: "Make this node's operator key, and print the line with which an operator adds it. The\n" +
			"line is no secret: it holds the public key, signed by the node.",
		Example: "request",
		Args:    usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := e.Daemon().OfferOperator(cmd.Context(), api.OfferRequest{})
			if err != nil {
				return err
			}
			return e.Print(o, func(w io.Writer) {
				fmt.Fprintln(w, o.Line)
				if o.Key.State == api.KeyInForce {
					fmt.Fprintf(e.Stderr, "operator key %s of %s is in force already\n", o.Key.Short(), o.Key.Node)
					return
				}
				fmt.Fprintf(e.Stderr, "operator key %s of %s; on an operator's node: tacit operator add %s --key LINE\n", o.Key.Short(), o.Key.Node, o.Key.Node)
			})
		},
	}
}

func (e *env) operatorAdd() *cobra.Command {
	var r api.OperatorAddition
	var rootFile string
	cmd := &cobra.Command{
		Use:   "add NODE --key LINE",
		Short: "let a node change policy, by the line that its tacit operator request printed",
		Long: "Let a node change policy. It is then trusted with everything but the root, as every\n" +
			"operator is. The root signs where its key is on this node or given, so that the new\n" +
			"operator rests on no other one; else this node's operator key does.",
		Example: "add host2 --key tacit-operator1.eyJub2Rl...",
		Args:    usage.Takes("NODE"), ValidArgsFunction: e.CompleteNodes,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Node = api.Name(args[0])
			if r.RootKey, err = e.rootKey(rootFile); err != nil {
				return err
			}
			k, err := e.Daemon().AddOperator(cmd.Context(), r)
			if err != nil {
				return err
			}
			return e.Print(k, func(w io.Writer) {
				fmt.Fprintf(w, "%s: operator key %s, signed by %s\n", k.Node, k.Short(), text.OrDash(text.List(k.SignedBy)))
			})
		},
	}
	cmd.Flags().StringVar(&r.Line, "key", "", "the line")
	rootFlag(cmd, &rootFile)
	usage.Required(cmd, "key")
	return cmd
}

func (e *env) operatorRemove() *cobra.Command {
	r := revocation{Revocation: api.Revocation{Scope: api.ScopeOperator}}
	return e.revoking(&r, &cobra.Command{
		Use:   "remove NODE|KEY",
		Short: "revoke an operator's key; what rests on it alone is signed again first",
		Long: "Revoke an operator's key. What rests on it alone is shown, and signed again with this\n" +
			"node's key, so that it stays; --without leaves out what a thief has signed. With the\n" +
			"root key, revocations by the removed key no longer count.",
		Example: "remove host1\n" +
			"  tacit operator remove 3f2a9c01d4e5 --root-key /media/usb/root.key --without 'intention/evil>db'",
		Args: usage.Takes("NODE|KEY"), ValidArgsFunction: e.CompleteNodes,
	})
}
