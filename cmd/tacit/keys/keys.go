// SPDX-License-Identifier: Apache-2.0

// Package keys has the nouns for the keys of the mesh: key, operator and ca, and the
// verb that revokes a node. It must not decide anything: it asks the daemon. It writes
// a private key only to the file that export-root names.
package keys

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

// Commands are the nouns of this package.
func Commands(e *cli.Env) []*cobra.Command {
	n := &env{e}
	return []*cobra.Command{n.operatorCommand(), n.keyCommand(), n.caCommand()}
}

type env struct{ *cli.Env }

func (e *env) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "list keys, revoke one",
		Long: "The public keys of the mesh: its root, operators, authorities, nodes, and those of\n" +
			"services' certificates that this node knows. A key is named by its first 8 digits\n" +
			"or more.",
		Example: "  tacit key list\n" +
			"  tacit key revoke 3f2a9c01d4e5 --reason \"found on a disk\"",
		Args: cobra.ArbitraryArgs,
		RunE: cli.NeedVerb,
	}
	cmd.AddCommand(e.keyList(), e.keyRevoke())
	return cmd
}

func (e *env) keyList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "every key: whose it is, who signed it, whether it counts",
		Example: "  tacit key list",
		Args:    usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := e.Daemon().Keys(cmd.Context())
			if err != nil {
				return err
			}
			return e.PrintList("keys", all, func(w io.Writer) { show.Keys(w, all, e.Width) })
		},
	}
}

func (e *env) keyRevoke() *cobra.Command {
	r := revocation{Revocation: api.Revocation{Scope: api.ScopeKey}}
	return e.revoking(&r, &cobra.Command{
		Use:   "revoke KEY",
		Short: "refuse a key from now on, whatever certificate it has",
		Long: "Refuse a key from now on, whatever certificate it has, and void what it signed. A\n" +
			"node gets a new key for a service by itself where it is still granted. What rests on\n" +
			"an operator's or authority's key alone is signed again first, with this node's.",
		Example: "  tacit key revoke 3f2a9c01d4e5 --reason \"found on a disk\"\n" +
			"  tacit key revoke 3f2a9c01d4e5 --yes",
		Args: usage.Takes("KEY"),
	})
}

// NodeRevoke is the verb revoke of the noun node.
func NodeRevoke(e *cli.Env) *cobra.Command {
	n, r := &env{e}, revocation{Revocation: api.Revocation{Scope: api.ScopeNode}}
	return n.revoking(&r, &cobra.Command{
		Use:   "revoke NODE",
		Short: "end a node's membership: all of its keys are refused from now on",
		Long: "End a node's membership: its key is refused from now on, and so are its operator key,\n" +
			"its authority's, and those of its services that this node knows. Its grants are\n" +
			"withdrawn. What its keys signed and others need is signed again first, with this\n" +
			"node's. The host can be a member again with an empty state directory and a new token.",
		Example: "  tacit node revoke host3\n" +
			"  tacit node revoke host3 --yes --reason \"disk stolen\"",
		Args: usage.Takes("NODE"), ValidArgsFunction: e.CompleteNodes,
	})
}

// revocation is a request with the flags that aren't part of it.
type revocation struct {
	api.Revocation
	yes      bool
	rootFile string
}

// revoking makes a command that revokes what its argument names, and adds its flags.
func (e *env) revoking(r *revocation, cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.Subject = args[0]
		return e.revoke(cmd, *r)
	}
	flags := cmd.Flags()
	flags.StringVar(&r.Reason, "reason", "", "why; recorded with the revocation")
	flags.BoolVar(&r.yes, "yes", false, "don't ask")
	flags.BoolVar(&r.DryRun, "dry-run", false, "only print the plan")
	flags.StringSliceVar(&r.Without, "without", nil, "record of the plan, or kind, not to sign again; repeatable")
	rootFlag(cmd, &r.rootFile)
	return cmd
}

func rootFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "root-key", "", "file with the root key, or - for standard input: it signs, and isn't kept")
}

// revoke shows what would be revoked and asks, unless --yes was given.
func (e *env) revoke(cmd *cobra.Command, r revocation) error {
	var err error
	if r.RootKey, err = e.rootKey(r.rootFile); err != nil {
		return err
	}
	if r.yes || r.DryRun {
		return e.revoked(e.Daemon().Revoke(cmd.Context(), r.Revocation))
	}
	plan := r.Revocation
	plan.DryRun = true
	if err := e.revoked(e.Daemon().Revoke(cmd.Context(), plan)); err != nil {
		return err
	}
	if err := e.Confirmed("Revoke these keys for good?"); err != nil {
		return err
	}
	return e.revoked(e.Daemon().Revoke(cmd.Context(), r.Revocation))
}

func (e *env) revoked(r *api.RevocationResult, err error) error {
	if err != nil {
		return err
	}
	return e.Print(r, func(w io.Writer) { show.Revocation(w, r, e.Width) })
}

// rootKey reads the root key, or nothing where no file was given.
func (e *env) rootKey(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := e.read(file)
	if err == nil && !strings.Contains(text, "PRIVATE KEY") {
		err = fmt.Errorf("%s: not a private key in PEM; give the file that tacit ca export-root wrote", file)
	}
	if err != nil {
		return "", fmt.Errorf("--root-key: %w", err)
	}
	return text, nil
}

const maxKeyFile = 4 << 10

// read reads a small file, or standard input for "-".
func (e *env) read(file string) (string, error) {
	from := e.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxKeyFile))
	return string(text), err
}
