// SPDX-License-Identifier: Apache-2.0

// Package flows has the noun flows: the connections of this node, listed or as they come.
// It must not choose among them: the daemon does, so that it sends no others.
package flows

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api/flow"
)

// Commands are the nouns of this package.
func Commands(e *cli.Env) []*cobra.Command { return []*cobra.Command{command(e)} }

func command(e *cli.Env) *cobra.Command {
	var follow bool
	var ask asked
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "connections of this node: who, to whom, verdict and reason, bytes, duration",
		Long: "The last four thousand connections that this node refused, carries or carried,\n" +
			"oldest first. A row may stand for several: refusals that are alike, and\n" +
			"connections within the node, which go directly from program to program. --json\n" +
			"also has sums of all since the daemon's start, and as dialled_from the peer\n" +
			"address that the called program saw, which matches a flow with its log.\n\n" +
			"Only connections that meet all of the flags are shown. With --live, --follow\n" +
			"prints connections as they begin.",
		Example: "  tacit flows\n" +
			"  tacit flows --follow --verdict refused\n" +
			"  tacit flows --service db --since 10m\n" +
			"  tacit flows --source web --reason default --reason intention --json",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := ask.query(cmd.Flags().Changed("since"))
			if err != nil {
				return err
			}
			if follow {
				return follower(e, q).run(cmd.Context())
			}
			list, err := e.Daemon().Flows(cmd.Context(), q)
			if err != nil {
				return err
			}
			return e.Print(list, func(w io.Writer) { printList(w, e.Width, list) })
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing connections as they end or are refused")
	ask.flags(cmd, e)
	usage.Exclusive(cmd, "live", "reason")
	return cmd
}

// asked are the flags that choose.
type asked struct {
	service, source, destination, node, verdict string
	reasons                                     []string
	live                                        bool
	since                                       time.Duration
}

func (a *asked) flags(cmd *cobra.Command, e *cli.Env) {
	f := cmd.Flags()
	f.StringVar(&a.service, "service", "", "only from or to this service")
	f.StringVar(&a.source, "source", "", "only from this service or ingress")
	f.StringVar(&a.destination, "destination", "", "only to this service, or to one that stands in for it")
	f.StringVar(&a.node, "node", "", "only to or from this other node")
	f.StringVar(&a.verdict, "verdict", "", "only what was allowed or refused")
	f.StringSliceVar(&a.reasons, "reason", nil, "only with this `REASON` of the end or the refusal; repeatable")
	f.BoolVar(&a.live, "live", false, "only live connections")
	f.DurationVar(&a.since, "since", 0, "only what ended, was refused or, live, began in this time, such as 10m")
	fixed := func(words ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"service": e.CompleteServices, "source": e.CompleteServices, "destination": e.CompleteServices, "node": e.CompleteNodes,
		"verdict": fixed(flow.Allowed, flow.Refused), "reason": fixed(flow.Reasons()...),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // no such flag
		}
	}
}

// query is what the flags ask for; an error names the flag.
func (a *asked) query(since bool) (flow.Query, error) {
	q := flow.Query{Service: flow.Name(a.service), Source: flow.Name(a.source), Destination: flow.Name(a.destination), Node: flow.Name(a.node),
		Verdict: a.verdict, Since: a.since}
	for _, r := range a.reasons {
		q.Reasons = append(q.Reasons, flow.Reason(r))
	}
	if a.live {
		q.Live = flow.LiveOnly
	}
	if since && a.since == 0 {
		return q, fmt.Errorf("--since %s: must be more than 0", a.since)
	}
	if err := q.Check(); err != nil {
		return q, fmt.Errorf("--%w", err)
	}
	return q, nil
}

// newTable has the columns of a list.
func newTable() *table.Table {
	return table.New("TIME", "SOURCE", "DESTINATION", "PORT", "DIRECTION", "COUNT", "SENT", "RECEIVED", "LASTED", "REASON")
}

func addRow(t *table.Table, f flow.Record) {
	t.Row(f.Time.Local().Format(time.TimeOnly), source(f), show.Destination(f.Destination, f.For), f.Port, direction(f),
		f.Count, f.Sent, f.Received, text.Elapsed(f.Duration), reason(f))
}

func printList(w io.Writer, width int, list *flow.List) {
	t := newTable()
	for _, f := range list.Flows {
		addRow(t, f)
	}
	t.Print(w, width)
	if list.Dropped > 0 {
		fmt.Fprintf(w, "%d older connections aren't shown\n", list.Dropped)
	}
	for _, r := range slices.Sorted(maps.Keys(list.Lost)) {
		fmt.Fprintf(w, "%d more with the reason %s aren't shown: they came too fast\n", list.Lost[r], table.OneLine(string(r)))
	}
}

func direction(f flow.Record) string {
	switch {
	case f.Program != "" && f.Reason == "permissive":
		return "let in (caller: " + f.Program + ")"
	case f.Program != "":
		return "refused (caller: " + f.Program + ")"
	case f.Node != "":
		return f.Direction + " " + string(f.Node)
	}
	return f.Direction
}

func reason(f flow.Record) string {
	if f.Live {
		return "live"
	}
	if f.Source == "" && f.Reason == "identity" {
		return "identity; start it with: tacit run SERVICE -- " + cmp.Or(f.Program, "…")
	}
	return string(f.Reason)
}

func source(f flow.Record) string { return cmp.Or(string(f.Source), "no identity") }
