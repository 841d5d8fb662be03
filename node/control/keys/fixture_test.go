// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/tproxy/lane"
)

const domain = "mesh.test"

// host is one node as its CLI sees its keys.
type host struct {
	api.Keys
	*membership.Member
	t       *testing.T
	name    identity.Name
	dir     string
	records *records.Records
	mesh    *mesh
	lanes   []lane.Info
	cut     []identity.Name
	settled int
}

// mesh is nodes that exchange all records when they are told to.
type mesh struct {
	t     *testing.T
	hosts []*host
}

func (m *mesh) spread() {
	for range 2 {
		for _, from := range m.hosts {
			for _, to := range m.hosts {
				to.records.Merge(from.name, from.records.State())
			}
		}
	}
}

// newMesh makes host1, which created the mesh, and the others.
func newMesh(t *testing.T, others ...identity.Name) *mesh {
	t.Helper()
	m := &mesh{t: t}
	s := settings(t, "host1")
	s.Bootstrap = true
	m.start(s)
	for _, name := range others {
		m.join(name)
	}
	return m
}

func settings(t *testing.T, name identity.Name) *config.Settled {
	return &config.Settled{Name: name, Config: config.Config{Paths: config.Paths{StateDir: t.TempDir()}, LanePort: 7947, Log: slog.New(slog.DiscardHandler),
		Membership: config.Membership{TrustDomain: domain, LeafTTL: time.Hour}}}
}

func (m *mesh) start(s *config.Settled) *host {
	m.t.Helper()
	st, err := store.Open(s.StateDir)
	must(m.t, err)
	m.t.Cleanup(func() { _ = st.Close() })
	member, l, err := membership.Enter(m.t.Context(), s, st)
	must(m.t, err)
	recs, err := records.New(records.Config{Self: s.Name, Ledger: l, Store: st, Health: health.NewBoard(), Log: s.Log, Changed: func() {}})
	must(m.t, err)
	return m.add(s, member, recs)
}

func (m *mesh) add(s *config.Settled, member *membership.Member, recs *records.Records) *host {
	h := &host{t: m.t, Member: member, name: s.Name, dir: s.StateDir, records: recs, mesh: m}
	h.Keys = New(Config{Settings: s, Member: member, Records: recs, Served: func() []membership.Served { return nil },
		Lanes: func() []lane.Info { return h.lanes }, Cut: func(n identity.Name) { h.cut = append(h.cut, n) }, Settle: func() { h.settled++ }})
	m.hosts = append(m.hosts, h)
	return h
}

// join makes a member without a connection: host1's authority signs it.
func (m *mesh) join(name identity.Name) *host {
	m.t.Helper()
	s := settings(m.t, name)
	st, err := store.Open(s.StateDir)
	must(m.t, err)
	m.t.Cleanup(func() { _ = st.Close() })
	first := m.hosts[0]
	key := newKey(m.t)
	first.sign(first.Authority.Key(), ledger.KindMember, string(name), statement.Member{Node: name, Public: key.Public()})
	l := ledger.New(domain, first.Bundle.Fingerprint())
	l.Merge(first.records.View().Records())
	member := &membership.Member{Key: key, Bundle: first.Bundle, Operator: membership.NewOperator(l.IsOperator)}
	recs, err := records.New(records.Config{Self: name, Ledger: l, Store: st, Health: health.NewBoard(), Log: s.Log, Changed: func() {}})
	must(m.t, err)
	return m.add(s, member, recs)
}

func (m *mesh) host(name identity.Name) *host {
	return m.hosts[slices.IndexFunc(m.hosts, func(h *host) bool { return h.name == name })]
}

func (h *host) sign(key *identity.Key, kind ledger.Kind, k string, body any) {
	h.t.Helper()
	must(h.t, h.records.Sign(key, records.Change{Kind: kind, Key: k, Body: body}))
}

// intend signs an intention with this node's operator key, such as "deny * db"; a
// deletion is "delete web db".
func (h *host) intend(rule string) {
	h.t.Helper()
	w := strings.Fields(rule)
	i := policy.Intention{Source: identity.Name(w[1]), Destination: identity.Name(w[2]), Action: policy.Allow}
	if w[0] == "deny" {
		i.Action = policy.Deny
	}
	must(h.t, h.records.Sign(h.Operator.Key(), records.Change{Kind: ledger.KindIntention, Key: i.Key(), Body: i, Delete: w[0] == "delete"}))
}

func (h *host) grant(node, service identity.Name) {
	h.t.Helper()
	h.sign(h.Operator.Key(), ledger.KindGrant, string(node)+"/"+string(service), statement.Grant{Node: node, Service: service})
}

func allowAll() records.Change {
	return records.Change{Kind: ledger.KindIntention, Key: "*>*", Body: policy.Intention{Source: "*", Destination: "*", Action: policy.Allow}}
}

// policy is the intentions in force here, in one line.
func (h *host) policy() string {
	var out []string
	for _, i := range h.records.View().Intentions() {
		out = append(out, fmt.Sprintf("%s %s %s", i.Action, i.Source, i.Destination))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// become makes a node an operator's: it offers a key, and by adds it.
func (h *host) become(by *host, rootKey string) *api.Key {
	h.t.Helper()
	offer, err := h.Offer(h.t.Context(), api.OfferRequest{})
	must(h.t, err)
	key, err := by.AddOperator(h.t.Context(), api.OperatorAddition{Node: h.name, Line: offer.Line, RootKey: rootKey})
	must(h.t, err)
	h.mesh.spread()
	if key.ID != offer.Key.ID || h.Operator.Key() == nil {
		h.t.Fatalf("%s is no operator: %+v", h.name, key)
	}
	return key
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.NewKey()
	must(t, err)
	return key
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused is an error as the CLI gets it.
func refused(err error) string {
	if err == nil {
		return "done"
	}
	e := api.AsError(err)
	return fmt.Sprintf("%d: %s [%s] %v", e.Code, e.Message, e.Hint, e.Nodes)
}
