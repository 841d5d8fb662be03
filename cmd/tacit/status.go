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

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "health of this node, each check with its reason",
		Long:  "Health of this node, each check with its reason.\n\nExit status: 0 healthy, 1 not healthy, 2 no answer.",
		Example: "  tacit status\n" +
			"  tacit status --json",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := e.Daemon().Status(cmd.Context())
			if err != nil {
				_ = e.Report(err)
				return cli.ExitStatus(cli.ExitError) // a refusal is no answer either
			}
			if err := e.Print(s, func(w io.Writer) { e.printStatus(w, s) }); err != nil {
				return err
			}
			if !s.Healthy {
				return cli.ExitStatus(cli.ExitNo)
			}
			return nil
		},
	}
}

func (e *env) printStatus(w io.Writer, s *api.Status) {
	health := "healthy"
	if !s.Healthy {
		health = "NOT healthy"
	}
	if len(s.Unheld) > 0 {
		fmt.Fprintf(w, "%s runs without socket hooks (--redirect tproxy), which does NOT guarantee: %s; see docs/redirect-tproxy.md\n",
			table.OneLine(string(s.Node)), table.OneLine(strings.Join(s.Unheld, ", ")))
	}
	fmt.Fprintf(w, "%s is %s\n\n", table.OneLine(string(s.Node)), health)
	t := table.New()
	t.Field("trust domain", s.TrustDomain)
	t.Field("version", s.Version)
	t.Field("up", text.Elapsed(time.Duration(s.UptimeSeconds*float64(time.Second))))
	t.Field("policy", fmt.Sprintf("revision %d, digest %s", s.Revision, s.Digest))
	if s.RebindingAnswers > 0 {
		t.Field("refused answers", fmt.Sprintf("%d of resolvers, which led to virtual addresses", s.RebindingAnswers))
	}
	if says := show.LanePort(s.LanePort); says != "" {
		t.Field("lane port", says)
	}
	for _, c := range s.Certificates {
		t.Row("certificate", fmt.Sprintf("%s until %s", c.ID, c.NotAfter.UTC().Format(time.RFC3339)))
	}
	t.Print(w, e.Width)
	e.printChecks(w, s.Checks)
	e.printLanes(w, s.Lanes)
	e.printCounters(w, s.Counters)
}

// printLanes shows one row for each identity proven on a lane.
func (e *env) printLanes(w io.Writer, lanes []api.Lane) {
	if len(lanes) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.New("LANE", "PEER", "PROVEN", "STREAMS")
	for _, l := range lanes {
		proven := append([]string(nil), l.Proven...)
		if len(proven) == 0 {
			proven = []string{"-"}
		}
		t.Row(l.Direction, l.Peer, proven[0], l.Streams)
		for _, id := range proven[1:] {
			t.Row("", "", id, "")
		}
	}
	t.Print(w, e.Width)
}

func (e *env) printChecks(w io.Writer, checks []api.Check) {
	if len(checks) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.New("CHECK", "STATE", "FOUND")
	for _, c := range gathered(checks) {
		state := "ok"
		if !c.OK {
			state = "FAILED"
		}
		t.Row(c.Name, state, c.Reason)
		if c.Hint != "" && !c.OK {
			t.Row("", "", "-> "+c.Hint)
		}
	}
	t.Print(w, e.Width)
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

func (e *env) printCounters(w io.Writer, counters map[api.Reason]uint64) {
	if len(counters) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table.New("REASON", "CONNECTIONS")
	for _, reason := range slices.Sorted(maps.Keys(counters)) {
		t.Row(reason, counters[reason])
	}
	t.Print(w, e.Width)
}
