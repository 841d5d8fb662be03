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
		Long: "Connections that this node refused, carries or carried, oldest first: the last\n" +
			"four thousand. Allowed connections within one node go from program to program\n" +
			"and aren't listed. With --json, dialled_from is the peer that a program of this\n" +
			"node saw: it tells whose connection a line of that program's own log is.",
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
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what ends or is refused from now on")
	return cmd
}

func printRecords(w io.Writer, flows []api.FlowRecord) {
	t := newTable("TIME", "SOURCE", "DESTINATION", "PORT", "WAY", "REASON", "SENT", "RECEIVED", "LASTED")
	for _, f := range flows {
		t.row(f.Time.Local().Format(time.TimeOnly), orNobody(f.Source), orDash(string(f.Destination)), f.Port, way(f), reason(f),
			f.Sent, f.Received, elapsed(f.Duration))
	}
	t.print(w)
}

// followFlows prints a line for each record that comes, until it is interrupted.
func (e *env) followFlows(cmd *cobra.Command, list *api.FlowList) error {
	last := uint64(0)
	for {
		if err := e.flowLines(list, last); err != nil {
			return err
		}
		pause := 300 * time.Millisecond
		if list.Last > last+busyFlows {
			pause = 10 * time.Millisecond // the daemon remembers only so many
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

// busyFlows records within one pause are many.
const busyFlows = 50

// flowLines prints the records that came after one number, and says so on
// standard error where the daemon has forgotten some of them.
func (e *env) flowLines(list *api.FlowList, after uint64) error {
	for _, f := range list.Flows {
		if f.Live {
			continue
		}
		if after != 0 && f.Seq > after+1 {
			fmt.Fprintf(e.stderr, "%d connections are missing here: they came faster than they were read\n", f.Seq-after-1)
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
		oneLine(orNobody(f.Source)), oneLine(orDash(string(f.Destination))), f.Port, oneLine(way(f)), oneLine(reason(f)), f.Sent, f.Received, elapsed(f.Duration))
	return err
}

func way(f api.FlowRecord) string {
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
