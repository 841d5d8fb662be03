// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tacit/node/api"
	"tacit/node/datapath"
	"tacit/node/health"
	"tacit/node/probe"
	"tacit/node/records"
	"tacit/policy/shortage"
	"tacit/redirect"
	"tacit/tproxy"
)

// shownFor is how long status shows a repair.
const shownFor = time.Minute

// Status is what the checks found, not what the daemon intended.
func (h host) Status(ctx context.Context) (*api.Status, error) {
	results, probing := h.SelfProbe.Results(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	counters, _, err := h.Enforcer.Counters()
	flows, err2 := h.Journal.Totals()
	out := &api.Status{
		Node: h.Settings.Name, TrustDomain: h.Member.Bundle.TrustDomain(), Version: h.Settings.Version,
		Revision: h.Enforcer.Revision().Number, Digest: h.Loop.InForce(), UptimeSeconds: time.Since(h.Started).Seconds(),
		Unheld: datapath.Unheld(h.Settings.Redirect), Certificates: h.certificates(), Lanes: h.lanes(), Counters: counters, Flows: flows, LanePort: h.lanePort(),
		RebindingAnswers: h.Names.Rebinding(), Descriptors: api.Use(h.Proxy.Descriptors()), Memory: api.Use(h.Proxy.Memory()),
	}
	out.Checks = h.checks(results, probing)
	out.Checks = h.gatherShort(append(out.Checks, check("counters", errors.Join(err, err2), "")))
	out.Healthy = true
	for _, c := range out.Checks {
		out.Healthy = out.Healthy && c.OK
	}
	return out, nil
}

func check(name string, err error, hint string) api.Check {
	if shortage.Is(err) {
		hint = unexamined
	}
	if err != nil {
		return api.Check{Name: name, Reason: err.Error(), Hint: hint}
	}
	return api.Check{Name: name, OK: true}
}

func (h host) checks(results []probe.Result, probing error) []api.Check {
	out := append(h.checkHooks(), h.checkMaps(), h.checkRevision(), h.checkRoutes(), h.checkOf(health.Ports), h.checkOf(health.Place), h.checkHost())
	out = append(out, checkProbe(results, probing)...)
	out = append(out, h.repairs()...)
	out = append(out, h.counts()...)
	out = append(out, h.checkMembers(), h.checkCertificates(), h.checkLimits())
	out = append(append(out, h.checkShares()...), h.checkDeadline()...)
	if says := h.Proxy.Draining(); says != "" {
		out = append(out, api.Check{Name: "take-over", OK: true, Reason: says})
	}
	named := map[string]bool{string(health.Descriptors): true, string(health.Memory): true} // gatherShort adds them
	for _, c := range out {
		named[c.Name] = true
	}
	for _, p := range h.Board.Problems() {
		if name := p.Key.String(); !named[name] { // else its check reports it
			out = append(out, check(name, p.Err, api.AsError(p.Err).Hint))
		}
	}
	return out
}

// checkHooks asks the kernel for each program. Other programs on the same hooks
// are named; whether they do harm is for the self-probe to find.
func (h host) checkHooks() []api.Check {
	const name = "hooks"
	hooks, err := h.Datapath.Hooks()
	if err != nil {
		return []api.Check{check(name, err, "restart tacitd")}
	}
	var bad []string
	var others []api.Check
	for _, hook := range hooks {
		if hook.Problem != "" {
			bad = append(bad, hook.Name+": "+hook.Problem)
		}
		if len(hook.Others) > 0 {
			others = append(others, api.Check{Name: "others on " + hook.Name, OK: true, Reason: strings.Join(hook.Others, ", ")})
		}
	}
	if len(bad) > 0 {
		return append(others, api.Check{Name: name, Reason: strings.Join(bad, "; "), Hint: "tacitd attaches them again within a second; if not, restart it"})
	}
	return append([]api.Check{{Name: name, OK: true, Reason: fmt.Sprintf("%d programs attached", len(hooks))}}, others...)
}

func (h host) checkMaps() api.Check {
	c := h.checkOf(health.Maps)
	if c.OK {
		c.Reason = "as they were written"
	}
	return c
}

// checkRevision says whether the policy is in force here, as the other members are told.
func (h host) checkRevision() api.Check {
	c := h.checkOf(health.Revision)
	if c.OK {
		c.Reason = "in force: " + h.Loop.InForce()
	}
	if d := h.Records.Dropped(); d != (records.Dropped{}) {
		c.Reason += fmt.Sprintf("; dropped since the start: %d forged, %d replayed, %d unread revisions of other nodes", d.Forged, d.Replayed, d.Excess)
	}
	return c
}

func (h host) checkRoutes() api.Check {
	missing, err := h.Datapath.Drift()
	if failed := h.Board.Get(health.Routes, ""); err == nil && failed != nil {
		err = failed // why they couldn't be set again
	}
	if err == nil && len(missing) > 0 {
		err = errors.New(strings.Join(missing, "; "))
	}
	if err != nil {
		return check(string(health.Routes), err, "tacitd sets them again within a second; if not, its log says why")
	}
	return api.Check{Name: string(health.Routes), OK: true, Reason: h.harmlessRoutes()}
}

// harmlessRoutes names routes of others in the virtual ranges, which our rules
// precede.
func (h host) harmlessRoutes() string {
	found, err := h.Datapath.Shadows()
	if err != nil || len(found) == 0 {
		return ""
	}
	var list []string
	for _, s := range found {
		list = append(list, s.Route)
	}
	return "routes of others in the virtual range: " + strings.Join(list, ", ")
}

// checkOf is a check that another part makes.
func (h host) checkOf(f health.Family) api.Check {
	err := h.Board.Get(f, "")
	if err == nil {
		return check(string(f), nil, "")
	}
	return check(string(f), err, api.AsError(err).Hint)
}

// checkHost also names settings that look like a hindrance and aren't one as
// far as is known.
func (h host) checkHost() api.Check {
	c := h.checkOf(health.Host)
	if strict := redirect.StrictFilters(); c.OK && len(strict) > 0 {
		c.Reason = "rp_filter is 1 (strict) on " + strings.Join(strict, ", ") + "; nothing known is dropped by it"
	}
	return c
}

// checkProbe is what the self-probe met.
func checkProbe(results []probe.Result, err error) []api.Check {
	if err != nil {
		return []api.Check{check("probe", err, "what programs do couldn't be tried")}
	}
	var out []api.Check
	for _, r := range results {
		c := api.Check{Name: r.Name, OK: r.Err == "", Reason: r.Err}
		if !c.OK {
			c.Hint = "see the other checks; another program on the same hook (check hooks) may rewrite or refuse"
		}
		out = append(out, c)
	}
	return out
}

// repairs are those of the last minute. Nothing is wrong any more, so they are OK.
func (h host) repairs() []api.Check {
	var out []api.Check
	for _, r := range h.Board.Repairs(time.Now().Add(-shownFor)) {
		says := fmt.Sprintf("%.0f s ago: %s", time.Since(r.At).Seconds(), r.Found)
		if r.Count > 1 {
			says += fmt.Sprintf(" (%d times since the start)", r.Count)
		}
		out = append(out, api.Check{Name: "repaired " + r.Object, OK: true, Reason: says})
	}
	return out
}

// counts are of what others tried and this node refused, which is no fault of it.
func (h host) counts() []api.Check {
	var out []api.Check
	counts := h.Board.Counts()
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		if counts[what] > 0 {
			out = append(out, api.Check{Name: what, OK: true, Reason: fmt.Sprintf("%d refused since the start", counts[what])})
		}
	}
	return out
}

func (h host) checkMembers() api.Check {
	alive := h.Alive()
	var down []string
	members := h.Records.View().Members()
	for _, m := range members {
		if !alive[m.Node] {
			down = append(down, string(m.Node))
		}
	}
	says := fmt.Sprintf("%d of %d nodes answer", len(members)-len(down), len(members))
	if len(down) > 0 {
		says += "; silent: " + strings.Join(down, ", ")
	}
	return api.Check{Name: "members", OK: true, Reason: says}
}

func (h host) checkCertificates() api.Check {
	return check("certificates", h.Certificates.Check(), "is the clock right, and can an authority be reached?")
}

func (h host) certificates() []api.Certificate {
	var out []api.Certificate
	for _, s := range h.Certificates.Served() {
		out = append(out, api.Certificate{ID: s.ID.String(), NotBefore: s.NotBefore, NotAfter: s.NotAfter, RenewAt: s.RenewAt})
	}
	return out
}

func (h host) lanePort() api.LanePort {
	unproven, refused := h.Proxy.Refused()
	return api.LanePort{Unproven: unproven, Refused: refused, Cut: h.Proxy.Cut()}
}

// lanes shows each lane with the identities that were proven on it.
func (h host) lanes() []api.Lane {
	var out []api.Lane
	for _, l := range h.Proxy.Lanes() {
		one := api.Lane{Peer: l.Peer.String(), Direction: tproxy.DirectionIn, AgeSeconds: time.Since(l.Since).Seconds(), Streams: l.Streams}
		if l.Dialled {
			one.Direction = tproxy.DirectionOut
		}
		for _, p := range l.Proven {
			one.Proven = append(one.Proven, p.ID.String())
		}
		out = append(out, one)
	}
	return out
}

// checkLimits says which of the kernel's maps are full: a new entry is refused,
// an old one stays.
func (h host) checkLimits() api.Check {
	const name = "limits"
	rooms, err := h.Enforcer.Room(h.Inventory.View().Names())
	if err != nil {
		return check(name, err, "restart tacitd")
	}
	var full []string
	for _, r := range rooms {
		if r.Full() {
			full = append(full, fmt.Sprintf("%d of %d %s: new ones are refused", r.Used, r.Of, r.What))
		}
	}
	if len(full) > 0 {
		return api.Check{Name: name, Reason: strings.Join(full, "; "),
			Hint: "run tacitd cleanup, and start it with larger --max-intentions, --max-workloads or --max-connecting"}
	}
	return api.Check{Name: name, OK: true}
}

// checkShares names the members that announce more than their share of the kernel's
// maps. Nothing is wrong on other nodes than theirs.
func (h host) checkShares() (out []api.Check) {
	for _, e := range h.Loop.Excess() {
		c := api.Check{Name: "share of " + string(e.Node), OK: e.Node != h.Settings.Name, Reason: e.String()}
		if !c.OK {
			c.Hint = "every node leaves the rest out: announce fewer"
		}
		if n := len(out); n > 0 && out[n-1].Name == c.Name {
			out[n-1].Reason += "; " + c.Reason
			continue
		}
		out = append(out, c)
	}
	return out
}

// checkDeadline is the countdown, while there is one.
func (h host) checkDeadline() []api.Check {
	left, open := h.Deadline.Left()
	if !open {
		return nil
	}
	return []api.Check{{Name: api.CheckConfirm, OK: true, Reason: fmt.Sprintf("unconfirmed: undone in %d s unless tacit confirm", int(left.Seconds()))}}
}
