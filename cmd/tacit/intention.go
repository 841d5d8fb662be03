// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) intentionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intention",
		Short: "who may call whom",
		Long: "Who may call whom. SRC and DST are services, or * (quoted) for every service.\n" +
			"SRC may be an ingress (ingress/NAME), which * and the default never let in.\n" +
			"The most specific intention decides: web->db beats *->db beats web->* beats *->*.",
		Example: "  tacit intention list\n" +
			"  tacit intention allow web db --wait\n" +
			"  tacit intention explain web db",
		Args: cobra.ArbitraryArgs,
		RunE: cli.NeedVerb,
	}
	cmd.AddCommand(
		e.intentionChange(api.ChangeAllow, "let SRC call DST"),
		e.intentionChange(api.ChangeDeny, "forbid SRC to call DST; live connections are cut"),
		e.intentionChange(api.ChangeDelete, "delete an intention; the next most specific one decides"),
		e.intentionList(), e.intentionCheck(), e.intentionExplain(),
	)
	return cmd
}

func (e *env) intentionList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "rules in order of precedence",
		Example: "  tacit intention list\n" +
			"  tacit intention list --json",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := e.Daemon().Intentions(cmd.Context())
			if err != nil {
				return err
			}
			return e.Print(l, func(w io.Writer) { e.printIntentions(w, l) })
		},
	}
}

func (e *env) printIntentions(w io.Writer, l *api.IntentionList) {
	t := table.New("PRECEDENCE", "SOURCE", "DESTINATION", "ACTION", "DESCRIPTION")
	for _, r := range l.Rules {
		t.Row(r.Precedence, r.Source, r.Destination, actionOf(r), r.Description)
	}
	t.Row("-", "*", "*", l.Default, "default, where no intention matches")
	t.Print(w, e.Width)
}

func actionOf(r api.Rule) string {
	if r.Conflict {
		return r.Action.String() + " (conflict)"
	}
	return r.Action.String()
}

func (e *env) intentionCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check SRC DST",
		Short: "the verdict for one pair",
		Long:  "The verdict for one pair of services, by this node's policy.\n\nExit status: 0 allowed, 1 denied, 2 error.",
		Example: "  tacit intention check web db\n" +
			"  tacit intention check web db > /dev/null && echo allowed",
		Args: usage.Takes("SRC", "DST"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := e.Daemon().CheckIntention(cmd.Context(), api.Name(args[0]), api.Name(args[1]))
			if err != nil {
				_ = e.Report(err)
				return cli.ExitStatus(cli.ExitError) // 1 would mean denied
			}
			if err := e.Print(v, func(w io.Writer) { fmt.Fprintln(w, verdict(*v)) }); err != nil {
				return err
			}
			if !v.Allowed {
				return cli.ExitStatus(cli.ExitNo)
			}
			return nil
		},
	}
}

// verdict returns "denied (intention: deny web -> db)" or "denied (default)".
func verdict(v api.Verdict) string {
	word := "denied"
	if v.Allowed {
		word = "allowed"
	}
	if v.Rule != nil {
		return fmt.Sprintf("%s (intention: %s)", word, rule(*v.Rule))
	}
	return fmt.Sprintf("%s (%s)", word, table.OneLine(string(v.Reason)))
}

func rule(r api.Rule) string {
	return table.OneLine(fmt.Sprintf("%s %s -> %s", r.Action, r.Source, r.Destination))
}
