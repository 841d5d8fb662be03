// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tacit/node/api"
)

func (e *env) flowsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "connections of this node: who, to whom, verdict and reason, bytes, duration",
		Long: "The last four thousand connections that this node refused, carries or carried,\n" +
			"oldest first. Allowed connections within the node go directly from program to\n" +
			"program and aren't listed. With --json, dialled_from is the peer address that\n" +
			"the called program saw: it matches a flow with a line of that program's log.",
		Example: "  tacit flows\n" +
			"  tacit flows --follow",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := e.daemon().Flows(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if !follow {
				return e.print(list, func(w io.Writer) { printRecords(w, list.Flows) })
			}
			return e.followFlows(cmd, list)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing connections as they end or are refused")
	return cmd
}

func printRecords(w io.Writer, flows []api.FlowRecord) {
	t := newTable("TIME", "SOURCE", "DESTINATION", "PORT", "DIRECTION", "REASON", "SENT", "RECEIVED", "LASTED")
	for _, f := range flows {
		t.row(f.Time.Local().Format(time.TimeOnly), orNobody(f.Source), orDash(string(f.Destination)), f.Port, direction(f), reason(f),
			f.Sent, f.Received, elapsed(f.Duration))
	}
	t.print(w)
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
		if list, err = e.daemon().Flows(cmd.Context(), last); err != nil {
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
			fmt.Fprintf(e.stderr, "%d connections are missing here: the daemon recorded them faster than tacit read them\n", f.Seq-after-1)
		}
		after = f.Seq
		if err := e.flowLine(f); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) flowLine(f api.FlowRecord) error {
	if e.json {
		text, err := json.Marshal(f)
		if err == nil {
			_, err = fmt.Fprintln(e.stdout, string(text))
		}
		return err
	}
	_, err := fmt.Fprintf(e.stdout, "%s %s -> %s:%d %s %s, %d sent, %d received, %s\n", f.Time.Local().Format(time.TimeOnly),
		oneLine(orNobody(f.Source)), oneLine(orDash(string(f.Destination))), f.Port, oneLine(direction(f)), oneLine(reason(f)), f.Sent, f.Received, elapsed(f.Duration))
	return err
}

func direction(f api.FlowRecord) string {
	switch {
	case f.Program != "":
		return "refused to " + f.Program
	case f.Node != "":
		return f.Direction + " " + string(f.Node)
	}
	return f.Direction
}

func reason(f api.FlowRecord) string {
	if f.Live {
		return "live"
	}
	return string(f.Reason)
}

func orNobody(n api.Name) string {
	if n == "" {
		return "nobody"
	}
	return string(n)
}
