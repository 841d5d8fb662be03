// SPDX-License-Identifier: Apache-2.0

package main

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
	"tacit/node/api"
)

func (e *env) flowsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "connections of this node: who, to whom, verdict and reason, bytes, duration",
		Long: "The last four thousand connections that this node refused, carries or carried,\n" +
			"oldest first. A row may stand for several: refusals that are alike, and\n" +
			"connections within the node, which go directly from program to program. --json\n" +
			"also has sums of all since the daemon's start, and as dialled_from the peer\n" +
			"address that the called program saw, which matches a flow with its log.",
		Example: "  tacit flows\n" +
			"  tacit flows --follow",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := e.Daemon().Flows(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if !follow {
				return e.Print(list, func(w io.Writer) { e.printRecords(w, list) })
			}
			return e.followFlows(cmd, list)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing connections as they end or are refused")
	return cmd
}

func (e *env) printRecords(w io.Writer, list *api.FlowList) {
	t := table.New("TIME", "SOURCE", "DESTINATION", "PORT", "DIRECTION", "COUNT", "SENT", "RECEIVED", "LASTED", "REASON")
	for _, f := range list.Flows {
		t.Row(f.Time.Local().Format(time.TimeOnly), source(f), show.Destination(f.Destination, f.For), f.Port, direction(f),
			f.Count, f.Sent, f.Received, text.Elapsed(f.Duration), reason(f))
	}
	t.Print(w, e.Width)
	if list.Dropped > 0 {
		fmt.Fprintf(w, "%d older connections aren't shown\n", list.Dropped)
	}
	for _, r := range slices.Sorted(maps.Keys(list.Lost)) {
		fmt.Fprintf(w, "%d more with the reason %s aren't shown: they came too fast\n", list.Lost[r], table.OneLine(string(r)))
	}
}

// followFlows prints a line for each new record, until the command is interrupted.
func (e *env) followFlows(cmd *cobra.Command, list *api.FlowList) error {
	last := uint64(0)
	for {
		if err := e.flowLines(list, last); err != nil {
			return err
		}
		pause := 300 * time.Millisecond
		if list.Last > last+busyFlows {
			pause = 10 * time.Millisecond // the daemon keeps a limited number
		}
		last = list.Last
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(pause):
		}
		var err error
		if list, err = e.Daemon().Flows(cmd.Context(), last); err != nil {
			return err
		}
	}
}

const busyFlows = 50 // records in one pause, above which the next pause is short

// flowLines prints the records numbered above after, and reports on standard
// error how many of them the daemon no longer has.
func (e *env) flowLines(list *api.FlowList, after uint64) error {
	for _, f := range list.Flows {
		if f.Live {
			continue
		}
		if after != 0 && f.Seq > after+1 {
			fmt.Fprintf(e.Stderr, "%d connections are missing here: the daemon recorded them faster than tacit read them\n", f.Seq-after-1)
		}
		after = f.Seq
		if err := e.flowLine(f); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) flowLine(f api.FlowRecord) error {
	if e.JSON {
		text, err := cli.Versioned(f)
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, string(text))
		}
		return err
	}
	_, err := fmt.Fprintf(e.Stdout, "%s %s -> %s:%d %s %s, %d connections, %d sent, %d received, %s\n", f.Time.Local().Format(time.TimeOnly),
		table.OneLine(source(f)), table.OneLine(show.Destination(f.Destination, f.For)), f.Port, table.OneLine(direction(f)), table.OneLine(reason(f)), f.Count, f.Sent, f.Received, text.Elapsed(f.Duration))
	return err
}

func direction(f api.FlowRecord) string {
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

func reason(f api.FlowRecord) string {
	if f.Live {
		return "live"
	}
	if f.Source == "" && f.Reason == "identity" {
		return "identity; start it with: tacit run SERVICE -- " + cmp.Or(f.Program, "…")
	}
	return string(f.Reason)
}

func source(f api.FlowRecord) string { return cmp.Or(string(f.Source), "no identity") }
