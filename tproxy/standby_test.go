// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"testing"

	"tacit/identity"
	"tacit/policy"
)

// standby is web on node a, calling db, for which db2 on node b answers.
func standby(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = pair(t, echo)
	svid := b.mesh.svid(identity.ServiceID(td, "db2"))
	b.with(func() {
		b.services = map[identity.Name]*identity.SVID{"db2": svid}
		b.programs["db2"] = b.programs["db"]
		delete(b.programs, "db")
	})
	a.with(func() {
		a.target.Service = "db2"
		delete(a.grants, [2]identity.Name{"b", "db"})
		a.grants[[2]identity.Name{"b", "db2"}] = true
	})
	return a, b
}

// TestStandby: proof, grant and flow records are those of the service that answers,
// and both services must be allowed, at the start and later.
func TestStandby(t *testing.T) {
	rule := func(action policy.Action, to identity.Name) policy.Intention {
		return policy.Intention{Source: "web", Destination: to, Action: action}
	}
	a, b := standby(t)
	ask(t, a)
	if f := a.lastFlow(1); f.Destination != "db2" || f.For != "db" || f.End != policy.ReasonClosed {
		t.Errorf("flow %+v", f)
	}
	if f := b.lastFlow(1); f.Destination != "db2" || f.For != "" {
		t.Errorf("flow on the other node %+v", f)
	}
	for n, denied := range []identity.Name{"db", "db2"} {
		c := a.call()
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		a.table.Store(policy.NewTable(policy.Allow, []policy.Intention{rule(policy.Deny, denied)}))
		if cut := a.Sweep(); cut != 1 {
			t.Errorf("%s is denied: %d cut", denied, cut)
		}
		wantReset(t, c)
		if f := a.lastFlow(2*n + 2); f.End != policy.ReasonChanged {
			t.Errorf("%s is denied: flow %+v", denied, f)
		}
		a.wantRefused([]byte("x"))
		if f := a.lastFlow(2*n + 3); f.End != policy.ReasonIntention {
			t.Errorf("%s is denied: flow %+v", denied, f)
		}
		a.table.Store(allow)
	}
	a.with(func() { delete(a.grants, [2]identity.Name{"b", "db2"}) })
	a.wantRefused([]byte("x"))
	if f := a.lastFlow(6); f.End != policy.ReasonGrant {
		t.Errorf("flow %+v", f)
	}
}
