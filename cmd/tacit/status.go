// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacit/node/api"
)

func (e *env) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "health of this node, each check with its reason",
		Long:  "Health of this node, each check with its reason.\n\nExit status: 0 healthy, 1 not healthy, 2 no answer.",
		Example: "  tacit status\n" +
			"  tacit status --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := e.daemon().Status(cmd.Context())
			if err != nil {
				_ = e.report(err)
				return exitStatus(exitError) // a refusal is no answer either
			}
			if err := e.print(s, func(w io.Writer) { printStatus(w, s) }); err != nil {
				return err
			}
			if !s.Healthy {
				return exitStatus(exitNo)
			}
			return nil
		},
	}
}

func printStatus(w io.Writer, s *api.Status) {
	health := "healthy"
	if !s.Healthy {
		health = "NOT healthy"
	}
	if len(s.Unheld) > 0 {
		fmt.Fprintf(w, "%s runs without socket hooks (--redirect tproxy), which does NOT guarantee: %s; see docs/redirect-tproxy.md\n",
			oneLine(string(s.Node)), oneLine(strings.Join(s.Unheld, ", ")))
	}
	fmt.Fprintf(w, "%s is %s\n\n", oneLine(string(s.Node)), health)
	t := newTable()
	t.field("trust domain", s.TrustDomain)
	t.field("version", s.Version)
	t.field("up", elapsed(time.Duration(s.UptimeSeconds*float64(time.Second))))
	t.field("policy", fmt.Sprintf("revision %d, digest %s", s.Revision, s.Digest))
	for _, c := range s.Certificates {
		t.row("certificate", fmt.Sprintf("%s until %s", c.ID, c.NotAfter.UTC().Format(time.RFC3339)))
	}
	t.print(w)
	printChecks(w, s.Checks)
	printLanes(w, s.Lanes)
	printCounters(w, s.Counters)
}

// printLanes shows one row for each identity proven on a lane.
func printLanes(w io.Writer, lanes []api.Lane) {
	if len(lanes) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("LANE", "PEER", "PROVEN", "STREAMS")
	for _, l := range lanes {
		proven := append([]string(nil), l.Proven...)
		if len(proven) == 0 {
			proven = []string{"-"}
		}
		t.row(l.Direction, l.Peer, proven[0], l.Streams)
		for _, id := range proven[1:] {
			t.row("", "", id, "")
		}
	}
	t.print(w)
}

func printChecks(w io.Writer, checks []api.Check) {
	if len(checks) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("CHECK", "STATE", "FOUND")
	for _, c := range gathered(checks) {
		state := "ok"
		if !c.OK {
			state = "FAILED"
		}
		t.row(c.Name, state, c.Reason)
		if c.Hint != "" && !c.OK {
			t.row("", "", "-> "+c.Hint)
		}
	}
	t.print(w)
}

// gathered merges the dozen probes that passed into one row.
func gathered(checks []api.Check) []api.Check {
	var out []api.Check
	at, passed := -1, 0
	for _, c := range checks {
		if !c.OK || c.Reason != "" || !strings.HasPrefix(c.Name, "probe ") {
			out = append(out, c)
			continue
		}
		if passed++; at < 0 {
			at = len(out)
			out = append(out, api.Check{Name: "probes", OK: true})
		}
		out[at].Reason = fmt.Sprintf("%d kinds of connection tried by a program", passed)
	}
	return out
}

func printCounters(w io.Writer, counters map[api.Reason]uint64) {
	if len(counters) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("REASON", "CONNECTIONS")
	for _, reason := range slices.Sorted(maps.Keys(counters)) {
		t.row(reason, counters[reason])
	}
	t.print(w)
}
