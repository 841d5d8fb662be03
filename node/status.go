// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/redirect"
)

// Status is what the checks found, not what the daemon intended.
func (b backend) Status(context.Context) (*api.Status, error) {
	n := b.n
	out := &api.Status{
		Node: n.cfg.name, TrustDomain: n.member.bundle.TrustDomain(), Version: n.cfg.Version,
		Revision: n.kernel.Revision(), Digest: n.digest(), UptimeSeconds: time.Since(n.started).Seconds(),
		Unheld: n.unheld(), Checks: b.checks(), Certificates: b.certificates(), Lanes: b.lanes(),
	}
	counters, err := n.kernel.Counters()
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
	out := []api.Check{b.checkHooks(), b.checkRoutes(), b.checkMembers(), b.checkCertificates(), b.checkLimits()}
	b.n.problems.each(func(what string, err error) {
		out = append(out, check(what, err, api.AsError(err).Hint))
	})
	return out
}

// checkHooks asks the kernel for each program: pinned, and attached where it should be.
func (b backend) checkHooks() api.Check {
	hooks, err := b.n.objects.Status()
	if err != nil {
		return check("hooks", err, "restart tacitd")
	}
	var bad []string
	for _, h := range hooks {
		if h.Problem != "" {
			bad = append(bad, h.Name+": "+h.Problem)
		}
	}
	if len(bad) > 0 {
		return api.Check{Name: "hooks", Reason: strings.Join(bad, "; "), Hint: "restart tacitd: it attaches them again"}
	}
	return api.Check{Name: "hooks", OK: true, Reason: fmt.Sprintf("%d programs attached", len(hooks))}
}

func (b backend) checkRoutes() api.Check {
	missing, err := redirect.Drift(*b.n.plan.Load())
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("missing: %s", strings.Join(missing, "; "))
	}
	return check("routes and rules", err, "restart tacitd: it sets them again")
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
