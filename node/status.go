// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/redirect"
)

// Status is what the checks found, not what the daemon intended.
func (b backend) Status(ctx context.Context) (*api.Status, error) {
	n := b.n
	select {
	case <-n.trials.first:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := &api.Status{
		Node: n.cfg.name, TrustDomain: n.member.bundle.TrustDomain(), Version: n.cfg.Version,
		Revision: n.kernel.Revision(), Digest: n.digest(), UptimeSeconds: time.Since(n.started).Seconds(),
		Unheld: n.unheld(), Checks: b.checks(), Certificates: b.certificates(), Lanes: b.lanes(),
	}
	counters, err := n.kernel.Counters()
	n.trials.discount(counters)
	out.Counters = counters
	out.Checks = append(out.Checks, check("counters", err, ""))
	out.Healthy = true
	for _, c := range out.Checks {
		out.Healthy = out.Healthy && c.OK
	}
	return out, nil
}

// digest is of the policy that the kernel's maps hold, "" before the first.
func (n *Node) digest() string {
	if d := n.inForce.Load(); d != nil {
		return *d
	}
	return ""
}

func check(name string, err error, hint string) api.Check {
	if err != nil {
		return api.Check{Name: name, Reason: err.Error(), Hint: hint}
	}
	return api.Check{Name: name, OK: true}
}

func (b backend) checks() []api.Check {
	out := append(b.checkHooks(), b.checkMaps(), b.checkRoutes(), b.checkOf(portsCheck), b.checkOf(placeCheck), b.checkHost())
	out = append(out, b.checkTrials()...)
	out = append(out, b.n.repairs.checks()...)
	out = append(out, b.checkMembers(), b.checkCertificates(), b.checkLimits())
	out = append(out, b.checkConfirm()...)
	named := map[string]bool{}
	for _, c := range out {
		named[c.Name] = true
	}
	b.n.problems.each(func(what string, err error) {
		if !named[what] { // else its check says it
			out = append(out, check(what, err, api.AsError(err).Hint))
		}
	})
	return out
}

// checkHooks asks the kernel for each program: pinned, attached where it should
// be, and running there. Other programs on the same hooks are named; whether
// they do harm is the probe's to find.
func (b backend) checkHooks() []api.Check {
	hooks, err := b.n.objects.Status()
	if err != nil {
		return []api.Check{check(hooksCheck, err, "restart tacitd")}
	}
	var bad []string
	var others []api.Check
	for _, h := range hooks {
		if h.Problem != "" {
			bad = append(bad, h.Name+": "+h.Problem)
		}
		if len(h.Others) > 0 {
			others = append(others, api.Check{Name: "others on " + h.Name, OK: true, Reason: strings.Join(h.Others, ", ")})
		}
	}
	if len(bad) > 0 {
		return append(others, api.Check{Name: hooksCheck, Reason: strings.Join(bad, "; "), Hint: "tacitd attaches them again within a second; if not, restart it"})
	}
	return append([]api.Check{{Name: hooksCheck, OK: true, Reason: fmt.Sprintf("%d programs attached", len(hooks))}}, others...)
}

func (b backend) checkMaps() api.Check {
	if err := b.n.problems.get("maps"); err != nil {
		return check(mapsCheck, err, api.AsError(err).Hint)
	}
	return api.Check{Name: mapsCheck, OK: true, Reason: "as they were written"}
}

func (b backend) checkRoutes() api.Check {
	missing, err := b.n.drift()
	if err == nil && len(missing) > 0 {
		err = errors.New(strings.Join(missing, "; "))
	}
	if err != nil {
		return check(routesCheck, err, "tacitd sets them again within a second; if not, its log says why")
	}
	return api.Check{Name: routesCheck, OK: true, Reason: b.harmlessRoutes()}
}

// harmlessRoutes names routes of others that would matter if ours weren't asked first.
func (b backend) harmlessRoutes() string {
	found, err := b.n.sentry.Shadows(redirect.Config{Range4: b.n.cfg.Range4, Range6: b.n.cfg.Range6})
	if err != nil || len(found) == 0 {
		return ""
	}
	var list []string
	for _, s := range found {
		list = append(list, s.Route)
	}
	return "routes of others in the virtual range: " + strings.Join(list, ", ")
}

// checkOf is a check that the watch makes.
func (b backend) checkOf(name string) api.Check {
	err := b.n.problems.get(name)
	if err == nil {
		return check(name, nil, "")
	}
	return check(name, err, api.AsError(err).Hint)
}

// checkHost names what looks like a hindrance, too, and is none as far as is known.
func (b backend) checkHost() api.Check {
	c := b.checkOf(hostCheck)
	if strict := redirect.StrictFilters(); c.OK && len(strict) > 0 {
		c.Reason = "rp_filter is 1 (strict) on " + strings.Join(strict, ", ") + "; nothing known is dropped by it"
	}
	return c
}

// checkTrials tells what the probe met on the ways that programs go.
func (b backend) checkTrials() []api.Check {
	results, err := b.n.trials.last()
	if err != nil {
		return []api.Check{check("probe", err, "the ways of programs couldn't be tried")}
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

func (b backend) checkMembers() api.Check {
	alive, _ := b.liveness()
	var down []string
	members := b.n.member.ledger.Members()
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

func (b backend) checkCertificates() api.Check {
	now := time.Now()
	if leaf := b.n.wallet.NodeSVID().Chain[0]; now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return api.Check{Name: "certificates", Reason: fmt.Sprintf("the node's certificate is valid from %s to %s", leaf.NotBefore, leaf.NotAfter),
			Hint: "is the clock right, and can an authority be reached?"}
	}
	for _, name := range b.n.granted() {
		if _, err := b.n.wallet.ServiceSVID(name); err != nil {
			return check("certificates", err, "can an authority be reached?")
		}
	}
	return api.Check{Name: "certificates", OK: true}
}

func (b backend) certificates() []api.Certificate {
	w := b.n.wallet
	out := []api.Certificate{w.describe(w.NodeSVID())}
	for _, name := range b.n.local.Load().names() {
		if s, err := w.ServiceSVID(name); err == nil {
			out = append(out, w.describe(s))
		}
	}
	return out
}

func (w *wallet) describe(s *identity.SVID) api.Certificate {
	return api.Certificate{ID: s.ID.String(), NotBefore: s.Chain[0].NotBefore, NotAfter: s.Chain[0].NotAfter, RenewAt: s.RenewAt(w.jitter)}
}

// lanes shows each lane with the identities that were proven on it.
func (b backend) lanes() []api.Lane {
	var out []api.Lane
	for _, l := range b.n.proxy.Lanes() {
		one := api.Lane{Peer: l.Peer.String(), Direction: l.Direction, AgeSeconds: time.Since(l.Since).Seconds(), Streams: l.Streams}
		for _, id := range l.Proven {
			one.Proven = append(one.Proven, id.String())
		}
		out = append(out, one)
	}
	return out
}
