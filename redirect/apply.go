// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNoIptables says that a plan has TPROXY chains and the host has no iptables.
var ErrNoIptables = errors.New("iptables is not installed: install the package iptables (it holds ip6tables too), or run with --redirect sockets")

// Apply puts the plan in force. It adds what is missing, then removes what is ours and not in the plan. It leaves alone
// what is right, so applying twice is applying once, and applying again repairs. After an error, the host holds what was
// done so far: call Apply again, or [Cleanup].
func Apply(p Plan) error { return apply(kernelHost{}, p) }

// Drift lists how the host differs from the plan, one difference a line: "missing: " or "left over: ", and the command
// that would add it. An empty list means that the plan is in force.
func Drift(p Plan) ([]string, error) { return drift(kernelHost{}, p) }

// Cleanup removes every route, rule and chain of ours from this network namespace. It finds them by protocol number and
// name, and does nothing where there is none.
func Cleanup() error { return apply(kernelHost{}, Plan{}) }

// host is the kernel as a holder of our state. It reports and changes only what is ours.
type host interface {
	routes() ([]route, error)
	addRoute(route) error
	delRoute(route) error
	rules() ([]rule, error)
	addRule(rule) error
	delRule(rule) error
	tables(v6 bool) (tables, error) // ErrNoIptables
}

// step is one difference between a plan and a host: the command that stands for it, and what removes the difference.
type step struct {
	text string
	do   func() error
}

// difference is how a host differs from a plan; the steps of each list are in the order in which they are to be done.
type difference struct {
	missing, stale []step
}

// add appends a step to missing. remove puts one before those of stale, so that removing is the reverse of adding.
func (d *difference) add(text string, do func() error) {
	d.missing = append(d.missing, step{text, do})
}

func (d *difference) remove(text string, do func() error) {
	d.stale = slices.Insert(d.stale, 0, step{text, do})
}

func apply(h host, p Plan) error {
	d, err := compare(h, p)
	if err != nil {
		return err
	}
	for _, s := range slices.Concat(d.missing, d.stale) {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return nil
}

func drift(h host, p Plan) ([]string, error) {
	d, err := compare(h, p)
	if err != nil {
		return nil, err
	}
	return d.lines(), nil
}

// lines are what [Drift] returns.
func (d *difference) lines() []string {
	var out []string
	for _, s := range d.missing {
		out = append(out, "missing: "+s.text)
	}
	for _, s := range d.stale {
		out = append(out, "left over: "+s.text)
	}
	return out
}

// compare reads the host once and returns how it differs from the plan.
func compare(h host, p Plan) (difference, error) {
	var d difference
	if err := compareRoutes(&d, h, p); err != nil {
		return d, err
	}
	if err := compareRules(&d, h, p); err != nil {
		return d, err
	}
	for _, v6 := range []bool{false, true} {
		if err := compareChains(&d, h, p, v6); err != nil {
			return d, err
		}
	}
	if p.addOnly {
		d.stale = nil
	}
	return d, nil
}

func compareRoutes(d *difference, h host, p Plan) error {
	have, err := h.routes()
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	for _, r := range without(p.routes, have) {
		d.add(r.String(), func() error { return h.addRoute(r) })
	}
	for _, r := range without(have, p.routes) {
		d.remove(r.String(), func() error { return h.delRoute(r) })
	}
	return nil
}

func compareRules(d *difference, h host, p Plan) error {
	have, err := h.rules()
	if err != nil {
		return fmt.Errorf("read routing rules: %w", err)
	}
	for _, r := range without(p.rules, have) {
		d.add(r.String(), func() error { return h.addRule(r) })
	}
	for _, r := range without(have, p.rules) {
		d.remove(r.String(), func() error { return h.delRule(r) })
	}
	return nil
}

// without returns the elements of a that are not in b.
func without[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(x T) bool { return slices.Contains(b, x) })
}
