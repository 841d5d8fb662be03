// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/audit"
	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/flows"
	"tacit/cmd/tacit/keys"
	"tacit/cmd/tacit/member"
	"tacit/cmd/tacit/usage"
)

// env gives the nouns of this package their surroundings.
type env struct{ *cli.Env }

// run is the whole program; it returns the exit status.
func (e *env) run(ctx context.Context, args []string) int {
	root := e.root()
	root.SetArgs(args)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[cli.ExitStatus](err); ok {
		return int(status)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(e.Stderr, "tacit: interrupted")
		return cli.ExitInterrupted
	}
	return e.Report(err)
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tacit",
		Short: "inspect and change a tacit mesh",
		Long: "tacit talks to this host's tacitd. Nouns read, verbs change.\n\n" +
			"Exit status: 0 done, 1 refused or the answer is no, 2 error.",
		Example: "  tacit status\n" +
			"  tacit run web -- ./web\n" +
			"  tacit intention allow web db --wait",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          cli.NeedVerb,
	}
	root.SetFlagErrorFunc(usage.FlagError)
	flags := root.PersistentFlags()
	flags.StringVar(&e.Socket, "socket", "", "the daemon's socket (default $TACIT_SOCKET or "+cli.DefaultSocket+")")
	flags.BoolVar(&e.JSON, "json", false, "print JSON")
	root.AddCommand(e.statusCommand(), e.resolveCommand())
	root.AddCommand(flows.Commands(e.Env)...)
	root.AddCommand(member.Commands(e.Env, keys.NodeRevoke(e.Env))...)
	root.AddCommand(keys.Commands(e.Env)...)
	root.AddCommand(audit.Commands(e.Env)...)
	root.AddCommand(
		e.servicesCommand(), e.serviceCommand(), e.runCommand(), e.intentionCommand(), e.applyCommand(),
		e.confirmCommand(), e.doctorCommand(), e.cleanupCommand(),
	)
	addCompletion(root)
	return root
}

// addCompletion creates cobra's own commands early, to give them examples.
func addCompletion(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  tacit help intention allow"
		case "completion":
			cmd.Example = "  tacit completion bash > /etc/bash_completion.d/tacit"
			for _, shell := range cmd.Commands() {
				shell.Example = "  tacit completion " + shell.Name()
			}
		}
	}
}
