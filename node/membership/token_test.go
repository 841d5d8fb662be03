// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/membership"
	"tacit/policy/ledger"
)

// nowhere is an address for nodes that nobody calls in a test.
var nowhere = netip.MustParseAddrPort("127.0.0.1:7947")

// grantNumbers are the sequence numbers of a token's grants, in order.
func grantNumbers(t *testing.T, text string) []uint64 {
	t.Helper()
	token, err := identity.ParseToken(text)
	must(t, err)
	var out []uint64
	for _, raw := range token.Grants {
		var rec ledger.Record
		must(t, json.Unmarshal(raw, &rec))
		out = append(out, rec.Dot.Seq)
	}
	return out
}

// TestTokenIsShort: a token with a grant is shorter than what terminals and mails
// leave whole. Its length varies by some bytes, as that of signatures does.
func TestTokenIsShort(t *testing.T) {
	n := bootstrap(t, "authority-1")
	n.at(t, netip.MustParseAddrPort("192.168.100.200:17947"))
	for _, services := range [][]identity.Name{nil, {"payments-api"}} {
		text, _, err := n.tokens().NewToken(membership.TokenRequest{Node: "database-2", Services: services})
		must(t, err)
		if t.Logf("%d bytes with %d grants", len(text), len(services)); len(text) >= 640 {
			t.Errorf("%d bytes with %d grants: %s", len(text), len(services), text)
		}
	}
	text, _, err := n.tokens().NewToken(membership.TokenRequest{Node: "database-2", Services: []identity.Name{"db", "web", "api"}})
	must(t, err)
	t.Logf("%d bytes with 3 grants", len(text))
}

func TestNewToken(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	for _, c := range []struct {
		request  membership.TokenRequest
		wantLife time.Duration
	}{
		{membership.TokenRequest{Node: "n2"}, 15 * time.Minute},
		{membership.TokenRequest{Node: "n2", Services: []identity.Name{"db", "web"}, TTL: time.Hour}, time.Hour},
	} {
		begin := time.Now()
		text, expires, err := n.tokens().NewToken(c.request)
		must(t, err)
		token, err := identity.ParseToken(text)
		must(t, err)
		if err := token.Verify("n2", n.records.View().IsOperator, begin); err != nil {
			t.Error(err)
		}
		if token.Authority != "n1" || !slices.Equal(token.Addresses, []string{nowhere.String()}) || token.Root != n.Bundle.Fingerprint() {
			t.Errorf("token %+v", token)
		}
		if life := expires.Sub(begin); life < c.wantLife || life > c.wantLife+time.Minute || len(token.Grants) != len(c.request.Services) {
			t.Errorf("good for %s with %d grants", life, len(token.Grants))
		}
		if n.records.View().Granted("n2", "db") {
			t.Error("a grant is in force before the token is redeemed")
		}
	}
}

// noDisk fails to keep anything.
type noDisk struct{}

func (noDisk) Set(string, []byte) error { return errCut }

func TestNewTokenRefuses(t *testing.T) {
	n, remote := bootstrap(t, "n1"), bootstrap(t, "n1")
	n.at(t, nowhere)
	for _, c := range []struct {
		name string
		make func() membership.TokenMaker
		node identity.Name
		want error
	}{
		{"no operator key", func() membership.TokenMaker {
			m, maker := *n.Member, n.tokens()
			m.Operator, maker.Member = nil, &m
			return maker
		}, "n2", membership.ErrNoOperatorKey},
		{"the name of a member", n.tokens, "n1", membership.ErrNameTaken},
		{"no authority has an address", remote.tokens, "n2", membership.ErrNoAddress},
		{"numbers can't be reserved", func() membership.TokenMaker {
			maker := n.tokens()
			maker.Store = noDisk{}
			return maker
		}, "n2", errCut},
	} {
		text, _, err := c.make().NewToken(membership.TokenRequest{Node: c.node, Services: []identity.Name{"db"}})
		if !errors.Is(err, c.want) || text != "" {
			t.Errorf("%s: %q, %v, want %v", c.name, text, err, c.want)
		}
	}
}

// TestNewTokenAnotherAuthority: a node with an operator key that is no
// authority names one that is.
func TestNewTokenAnotherAuthority(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	m, maker := *n.Member, n.tokens()
	m.Authority, maker.Member, maker.Self = nil, &m, "n9"
	text, _, err := maker.NewToken(membership.TokenRequest{Node: "n2"})
	must(t, err)
	if token, err := identity.ParseToken(text); err != nil || token.Authority != "n1" {
		t.Errorf("token for %+v, %v", token, err)
	}
}
