// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) intentionExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain SRC DST",
		Short: "winning and losing rules, what each node has in force, live connections",
		Long: "Why SRC may or may not call DST: the rule that decides, the rules that it\n" +
			"overrides, the policy that each node has in force, and the live connections.",
		Example: "  tacit intention explain web db\n" +
			"  tacit intention explain web db --json",
		Args: usage.Takes("SRC", "DST"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := e.Daemon().ExplainIntention(cmd.Context(), api.Name(args[0]), api.Name(args[1]))
			if err != nil {
				return err
			}
			return e.Print(x, func(w io.Writer) { e.printExplanation(w, x) })
		},
	}
}

func (e *env) printExplanation(w io.Writer, x *api.Explanation) {
	fmt.Fprintf(w, "%s -> %s: %s\n", x.Source, x.Destination, verdict(x.Verdict))
	if x.Why != "" {
		fmt.Fprintln(w, table.OneLine(x.Why))
	}
	for _, name := range x.Unknown {
		fmt.Fprintf(w, "No instance of %s is known.\n", table.OneLine(string(name)))
	}
	e.printRules(w, x)
	fmt.Fprintln(w)
	t := table.New("NODE", "IN FORCE")
	for _, n := range x.Nodes {
		t.Row(n.Name, show.InForce(n, x.Digest))
	}
	t.Print(w, e.Width)
	e.printFlows(w, x.Live)
}

func (e *env) printRules(w io.Writer, x *api.Explanation) {
	fmt.Fprintln(w)
	t := table.New("", "PRECEDENCE", "RULE", "BY", "SINCE", "DESCRIPTION")
	decides := "decides"
	if x.Winner != nil {
		t.Row(decides, x.Winner.Precedence, rule(*x.Winner), text.OrDash(x.Winner.By), since(*x.Winner), x.Winner.Description)
		decides = "loses"
	}
	for _, r := range x.Losers {
		t.Row("loses", r.Precedence, rule(r), text.OrDash(r.By), since(r), r.Description)
	}
	t.Row(decides, "-", fmt.Sprintf("%s * -> *", x.Default), "-", "-", "default, where no intention matches")
	t.Print(w, e.Width)
}

// since is when this node learned a rule.
func since(r api.Rule) string {
	if r.Since.IsZero() {
		return "-"
	}
	return r.Since.Local().Format(time.DateTime)
}

func (e *env) printFlows(w io.Writer, flows []api.Flow) {
	if len(flows) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.New("LIVE HERE", "CLIENT", "OTHER NODE", "ANSWERED BY", "PORT", "SENT", "RECEIVED", "SINCE")
	for _, f := range flows {
		t.Row(f.Direction, f.Client, text.OrDash(string(f.Node)), show.Destination(f.Destination, f.For), f.Port, text.Amount(f.Sent), text.Amount(f.Received), f.Start.UTC().Format(time.RFC3339))
	}
	t.Print(w, e.Width)
}
