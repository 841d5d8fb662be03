// SPDX-License-Identifier: Apache-2.0

// Package bench compares tacit with what else carries a connection between two
// hosts in mutual TLS, and with no proxy at all. Its tests make the hosts, start
// the systems and measure them (BenchmarkPeers); the package itself lists the
// figures and their goals, and turns samples into ratios, a table and a chart. It
// must not know how tacit works, and no figure decides a test.
package bench

import "fmt"

// The systems, in the order of the table's columns.
const (
	Direct  = "direct" // no proxy
	Tacit   = "tacit"
	HAProxy = "haproxy"
	Nginx   = "nginx"
)

// Systems are all of them.
func Systems() []string { return []string{Direct, Tacit, HAProxy, Nginx} }

// peers are those that tacit is compared with.
func peers() []string { return []string{HAProxy, Nginx} }

// Goal is what a figure shall reach.
type Goal struct {
	Kind GoalKind
	By   float64
}

// GoalKind says with what a figure is compared.
type GoalKind int

// The ratio is tacit's value by that of the best peer; of figures that only direct
// has, by direct's.
const (
	NoGoal      GoalKind = iota
	RatioAbove           // the ratio is at least By
	RatioBelow           // the ratio is at most By
	ValueBelow           // tacit's value is at most By
	DirectAbove          // the ratio to direct is at least By
	DirectPlus           // tacit's value is at most By more than direct's
)

// String is the goal as the table shows it.
func (g Goal) String() string {
	switch g.Kind {
	case RatioAbove, DirectAbove:
		return fmt.Sprintf("≥ %s×", number(g.By))
	case RatioBelow:
		return fmt.Sprintf("≤ %s×", number(g.By))
	case ValueBelow:
		return "≤ " + number(g.By)
	case DirectPlus:
		return "≤ +" + number(g.By)
	}
	return ""
}

// againstDirect says whether the figure is compared with direct, since no peer has it.
func (g Goal) againstDirect() bool { return g.Kind == DirectAbove || g.Kind == DirectPlus }

// Figure is one line of the table.
type Figure struct {
	ID   string // in the results file
	Name string
	More bool // more is better
	Goal Goal
	// Regression figures are printed and kept in the results, but not drawn: they
	// explain the others.
	Regression bool
}

// Figures are the lines of the table, in their order.
func Figures() []Figure {
	return []Figure{
		{ID: "rps1", Name: "requests/s, 1 connection", More: true, Goal: Goal{RatioAbove, 1.15}},
		{ID: "rps32", Name: "requests/s, 32", More: true, Goal: Goal{RatioAbove, 1.5}},
		{ID: "rps256", Name: "requests/s, 256", More: true, Goal: Goal{RatioAbove, 2}},
		{ID: "p50_1", Name: "p50 at 1, µs", Regression: true},
		{ID: "p99_1", Name: "p99 at 1, µs", Regression: true},
		{ID: "p50_32", Name: "p50 at 32, µs", Regression: true},
		{ID: "p99_32", Name: "p99 at 32, µs", Regression: true},
		{ID: "p50_256", Name: "p50 at 256, µs", Regression: true},
		{ID: "p99_256", Name: "p99 at 256, µs", Goal: Goal{RatioBelow, 1.0 / 6}},
		{ID: "bulk1", Name: "Gbit/s to the server, 1 stream", More: true, Goal: Goal{RatioAbove, 1.5}},
		{ID: "bulk1r", Name: "Gbit/s to the client, 1", More: true, Goal: Goal{RatioAbove, 1.5}},
		{ID: "bulk4", Name: "Gbit/s to the server, 4", More: true, Goal: Goal{RatioAbove, 1.5}},
		{ID: "bulk4r", Name: "Gbit/s to the client, 4", More: true, Goal: Goal{RatioAbove, 1.5}},
		{ID: "new", Name: "new connections/s, 32 at a time", More: true, Goal: Goal{RatioAbove, 6}},
		{ID: "cold_p50", Name: "connect + request p50, µs", Goal: Goal{RatioBelow, 1.0 / 6}},
		{ID: "cold_p99", Name: "connect + request p99, µs", Goal: Goal{RatioBelow, 1.0 / 6}},
		{ID: "cpu1", Name: "CPU-s per 100k requests, 1", Regression: true},
		{ID: "cpu32", Name: "CPU-s per 100k requests, 32", Goal: Goal{RatioBelow, 0.5}},
		{ID: "cpu256", Name: "CPU-s per 100k requests, 256", Goal: Goal{RatioBelow, 0.4}},
		{ID: "cpu_gb", Name: "CPU-s per GB", Goal: Goal{RatioBelow, 0.65}},
		{ID: "cpu_new", Name: "CPU-s per 100k connections", Goal: Goal{RatioBelow, 0.1}},
		{ID: "idle_kib", Name: "KiB per idle connection", Goal: Goal{ValueBelow, 24}},
		{ID: "sys1", Name: "system calls per request, 1", Regression: true},
		{ID: "sys32", Name: "system calls per request, 32", Regression: true},
		{ID: "sys256", Name: "system calls per request, 256", Regression: true},
		{ID: "switch1", Name: "switches per request, 1", Regression: true},
		{ID: "switch32", Name: "switches per request, 32", Regression: true},
		{ID: "switch256", Name: "switches per request, 256", Regression: true},
		{ID: "near_rps1", Name: "same node: requests/s, 1", More: true, Goal: Goal{DirectAbove, 0.95}},
		{ID: "near_rps32", Name: "same node: requests/s, 32", More: true, Goal: Goal{DirectAbove, 0.95}},
		{ID: "near_connect", Name: "same node: connect p50, µs", Goal: Goal{DirectPlus, 5}},
	}
}
