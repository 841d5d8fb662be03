// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/membership"
	"tacit/policy/ledger"
)

// altered is an issuer whose admissions a test changes before they are sent.
type altered struct {
	*membership.Issuer
	change func(*enrol.Admission)
}

func (a altered) Admit(ctx context.Context, ask enrol.Ask) (*enrol.Admission, error) {
	out, err := a.Issuer.Admit(ctx, ask)
	if err == nil {
		a.change(out)
	}
	return out, err
}

func TestJoin(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	s := joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2", Services: []identity.Name{"db"}}))
	n2 := enter(t, s)
	if n2.Bundle.Fingerprint() != n1.Bundle.Fingerprint() || n2.Authority != nil || n2.Operator.Held() != nil {
		t.Errorf("member %+v", n2.Member)
	}
	if id, err := n1.Bundle.Verify(n2.SVID.Chain, time.Now()); err != nil || id != identity.NodeID(domain, "n2") {
		t.Errorf("certificate of %s, %v", id, err)
	}
	for _, n := range []node{n1, n2} {
		if !n.records.View().Granted("n2", "db") {
			t.Errorf("%s: the token's grant isn't in force", n.settings.Name)
		}
	}
	must(t, n2.store.Close())
	s.TokenFile = "" // not needed any more
	if again := enter(t, s); again.Key.ID() != n2.Key.ID() || again.records.View().Digest() != n2.records.View().Digest() {
		t.Error("a restart finds another key or other records")
	}
}

// TestJoinAfterACutOffBootstrap: the authority that was never used is gone.
func TestJoinAfterACutOffBootstrap(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	s := joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2"}))
	st := openStore(t, s)
	s.Bootstrap = true
	if _, _, err := membership.Enter(t.Context(), s, cutOff{st, "root"}); err == nil {
		t.Fatal("not cut off")
	}
	must(t, st.Close())
	s.Bootstrap = false
	n2 := enter(t, s)
	must(t, n2.store.Close())
	if again := enter(t, s); again.Authority != nil || again.Bundle.Fingerprint() != n1.Bundle.Fingerprint() {
		t.Errorf("after a restart %+v", again.Member)
	}
}

func TestJoinRefused(t *testing.T) {
	n1, other := bootstrap(t, "n1"), bootstrap(t, "n1")
	addr := n1.serve(t, n1.issuer)
	altering := func(change func(*enrol.Admission)) func(*testing.T) string {
		return func(t *testing.T) string {
			n := bootstrap(t, "n1")
			n.serve(t, altered{n.issuer, change})
			return n.token(t, membership.TokenRequest{Node: "n2"})
		}
	}
	for _, c := range []struct {
		name  string
		token func(*testing.T) string
		want  string
	}{
		{"nobody answers", func(t *testing.T) string { return anyToken(t, "n2") }, "no authority could be reached"},
		{"a used token", func(t *testing.T) string {
			text := n1.token(t, membership.TokenRequest{Node: "n2"})
			enter(t, joining(t, "n2", text))
			return text
		}, "the token has been used"},
		{"another mesh answers", func(t *testing.T) string {
			other.at(t, addr)
			return other.token(t, membership.TokenRequest{Node: "n2"})
		}, "this is not the mesh that the token is for"},
		{"another root in the answer", altering(func(a *enrol.Admission) { a.Root = other.Bundle.Roots()[0].Raw }), "not the one that the token is pinned to"},
		{"no root in the answer", altering(func(a *enrol.Admission) { a.Root = nil }), "root certificate: "},
		{"no certificate in the answer", altering(func(a *enrol.Admission) { a.Chain = nil }), "certificate chain: 0 certificates"},
		{"no membership in the answer", altering(func(a *enrol.Admission) { a.Records = []ledger.Record{} }), "the answer doesn't make this node a member"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := joining(t, "n2", c.token(t))
			s.Join = []string{netip.AddrPortFrom(addr.Addr(), 1).String()} // where nobody listens
			st := openStore(t, s)
			if _, _, err := membership.Enter(t.Context(), s, st); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if root, err := st.Get("root"); err != nil || root != nil {
				t.Errorf("the node counts as a member: %v", err)
			}
		})
	}
}

// TestJoinAddresses: after the token's addresses those of --join are asked, on
// the lane port where none is given.
func TestJoinAddresses(t *testing.T) {
	n1 := bootstrap(t, "n1")
	addr := n1.serve(t, n1.issuer)
	n1.at(t, netip.AddrPortFrom(addr.Addr(), 1)) // so the token says
	for name, join := range map[identity.Name]string{"n2": addr.String(), "n3": addr.Addr().String(), "n4": "[" + addr.Addr().String() + "]"} {
		s := joining(t, name, n1.token(t, membership.TokenRequest{Node: name}))
		s.Join, s.LanePort = []string{join}, addr.Port()
		enter(t, s)
	}
}
