// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/api"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/limits"
	"tacit/node/membership"
	"tacit/node/probe"
	"tacit/node/reconcile/share"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/redirect"
	"tacit/tproxy"
	"tacit/tproxy/lane"
)

// fixture is host1, which created a mesh, as its CLI sees it. Keys, records,
// the catalog, the board and the journal are real; the kernel is not there.
type fixture struct {
	api.Backend
	Config
	records   *said
	inventory *defined
	loop      *loop
	kernel    *fakeKernel
	proxy     *fakeProxy
	journal   *fakeJournal
	certs     *certificates
	checks    *fakeChecks
	board     *health.Board
	alive     map[identity.Name]bool
}

// newFixture makes a mesh of host1 alone; its address is 10.0.0.1.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	s := &config.Settled{Name: "host1", Config: config.Config{
		Paths: config.Paths{StateDir: t.TempDir(), BPFDir: "/sys/fs/bpf/tacit"}, LanePort: 7947, Version: "test", Log: slog.New(slog.DiscardHandler),
		Membership: config.Membership{Bootstrap: true, TrustDomain: "mesh.test", LeafTTL: time.Hour},
	}}
	st, err := store.Open(s.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	member, held, err := membership.Enter(t.Context(), s, st)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{board: health.NewBoard(), inventory: newDefined(), kernel: &fakeKernel{}, proxy: &fakeProxy{}, journal: &fakeJournal{}, alive: map[identity.Name]bool{"host1": true}}
	recs, err := records.New(records.Config{Self: s.Name, Key: member.Key, Ledger: held, Store: st, Health: f.board, Log: s.Log, Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	f.records = &said{Records: recs, revisions: map[identity.Name]string{}}
	f.loop = &loop{f: f}
	f.checks = &fakeChecks{}
	f.certs = &certificates{until: time.Now().Add(time.Hour)}
	f.Config = Config{
		Settings: s, Member: member, Started: time.Now(), Records: f.records, Signer: f, Certificates: f.certs, Inventory: f.inventory, Loop: f.loop,
		Tokens:   membership.TokenMaker{Member: member, Self: s.Name, Roll: recs.View(), Records: recs, Store: st},
		Datapath: f.kernel, Enforcer: f.kernel, SelfProbe: f.kernel, Deadline: f.kernel, Proxy: f.proxy, Names: names{}, Board: f.board,
		Journal: f.journal, Alive: func() map[identity.Name]bool { return f.alive }, Checks: f.checks,
	}
	f.Backend = New(f.Config)
	f.sign(t, member.Key, records.Change{Kind: ledger.KindNode, Key: "host1",
		Body: statement.Node{Node: "host1", Address: "10.0.0.1", LanePort: 7947, GossipPort: 7946, Version: "test"}})
	f.loop.Settle()
	return f
}

func (f *fixture) sign(t *testing.T, key *identity.Key, c records.Change) {
	t.Helper()
	if err := f.records.Sign(key, c); err != nil {
		t.Fatal(err)
	}
}

// admit makes another node a member and returns its key; where addr isn't "",
// the node has announced itself and answers.
func (f *fixture) admit(t *testing.T, name identity.Name, addr string) *identity.Key {
	t.Helper()
	key := newKey(t)
	f.sign(t, f.Member.Authority.Key(), records.Change{Kind: ledger.KindMember, Key: string(name), Body: statement.Member{Node: name, Public: key.Public()}})
	if addr != "" {
		f.sign(t, key, records.Change{Kind: ledger.KindNode, Key: string(name),
			Body: statement.Node{Node: name, Address: addr, LanePort: 7947, GossipPort: 7946, Version: "other"}})
		f.alive[name] = true
	}
	return key
}

// operator gives a node an operator key.
func (f *fixture) operator(t *testing.T, name identity.Name) *identity.Key {
	t.Helper()
	key := newKey(t)
	f.sign(t, f.Member.Operator.Key(), records.Change{Kind: ledger.KindOperator, Key: key.ID().String(), Body: statement.Operator{Node: name, Public: key.Public()}})
	return key
}

// runs makes another member run an instance, with a grant.
func (f *fixture) runs(t *testing.T, node identity.Name, key *identity.Key, service identity.Name, port uint16) {
	t.Helper()
	if err := f.Grant(node, service, false); err != nil {
		t.Fatal(err)
	}
	f.sign(t, key, records.Change{Kind: ledger.KindInstance, Key: string(node) + "/" + string(service),
		Body: statement.Instance{Node: node, Service: service, ID: string(service), Port: port}})
	f.loop.Settle()
}

// intend signs an intention; text is "allow web db" or "deny * db".
func (f *fixture) intend(t *testing.T, rules ...string) {
	t.Helper()
	for _, rule := range rules {
		f.sign(t, f.Member.Operator.Key(), intention(rule))
	}
	f.loop.Settle()
}

func intention(rule string) records.Change {
	words := strings.Fields(rule)
	i := policy.Intention{Source: identity.Name(words[1]), Destination: identity.Name(words[2]), Action: policy.Allow}
	if words[0] == "deny" {
		i.Action = policy.Deny
	}
	return records.Change{Kind: ledger.KindIntention, Key: i.Key(), Body: i}
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Grant signs as the daemon does.
func (f *fixture) Grant(node, service identity.Name, withdraw bool, outside ...string) error {
	return f.records.Sign(f.Member.Operator.Key(), records.Change{Kind: ledger.KindGrant, Key: string(node) + "/" + string(service),
		Body: statement.Grant{Node: node, Service: service, Outside: outside}, Delete: withdraw})
}

// GrantOwn refuses as the daemon does on a node without an operator key.
func (f *fixture) GrantOwn(service identity.Name, outside ...string) error {
	if f.records.View().Granted("host1", service) {
		return nil
	}
	if f.Member.Operator.Key() == nil {
		return &api.Error{Code: api.CodeRefused, Reason: "grant", Message: fmt.Sprintf("service %s is not granted to node host1", service)}
	}
	return f.Grant("host1", service, false, outside...)
}

// said are real records, with what other nodes say of their kernel's maps.
type said struct {
	*records.Records
	signed    int
	revisions map[identity.Name]string
	dropped   records.Dropped
}

func (s *said) Dropped() records.Dropped { return s.dropped }

func (s *said) Sign(key *identity.Key, c records.Change) error {
	s.signed++
	return s.Records.Sign(key, c)
}

func (s *said) Revisions() map[identity.Name]records.Revision {
	out := map[identity.Name]records.Revision{}
	for node, digest := range s.revisions {
		out[node] = records.Revision{Digest: digest}
	}
	return out
}

// loop brings records in force at once, as reconcile.Loop does.
type loop struct {
	f       *fixture
	table   *policy.Table
	catalog *catalog.Catalog
	excess  []share.Excess
}

func (l *loop) Catalog() *catalog.Catalog { return l.catalog }
func (l *loop) Policy() *policy.Table     { return l.table }
func (l *loop) Digest() string            { return l.catalog.PolicyDigest(l.table.Digest()) }
func (l *loop) InForce() string           { return l.Digest() }
func (l *loop) Excess() []share.Excess    { return l.excess }
func (l *loop) Absent() map[identity.Name]time.Time {
	return map[identity.Name]time.Time{"host3": time.Unix(1000, 0)}
}

// Settle publishes what is defined here, too.
func (l *loop) Settle() {
	view := l.f.records.View()
	for _, body := range view.Published("host1") {
		if _, ok := l.f.inventory.View().ByID(body.ID); !ok {
			_ = l.f.records.Sign(l.f.Member.Key, records.Change{Kind: ledger.KindInstance, Key: "host1/" + body.ID, Body: body, Delete: true})
		}
	}
	for _, s := range l.f.inventory.services {
		body := statement.Instance{Node: "host1", Service: s.Name, ID: s.ID, Port: s.Port, Address: s.Address, Tags: s.Tags, Permissive: s.Permissive}
		if s.Port != 0 && !s.Listener.Serves() {
			body.Down = statement.DownListener
		}
		_ = l.f.records.Sign(l.f.Member.Key, records.Change{Kind: ledger.KindInstance, Key: "host1/" + s.ID, Body: body})
	}
	l.table = policy.NewTable(policy.Deny, view.Intentions())
	l.catalog = catalog.New("host1", view, func(n identity.Name) bool { return l.f.alive[n] })
}

// fakeJournal has the records and totals that a test gives it.
type fakeJournal struct {
	records []api.FlowRecord
	totals  api.FlowTotals
	after   uint64 // of the last call
	err     error
}

func (j *fakeJournal) Author(ledger.Kind, string) (string, time.Time, bool) {
	return "operator host1", time.Unix(1, 0), true
}

func (j *fakeJournal) After(seq uint64) ([]api.FlowRecord, uint64, error) {
	j.after = seq
	return slices.Clone(j.records), 7, j.err
}

func (j *fakeJournal) Totals() (api.FlowTotals, error) { return j.totals, j.err }

// fakeKernel answers for datapath, enforcer, self-probe and deadline.
type fakeKernel struct {
	hooks       []bpf.Hook
	hooksErr    error
	drift       []string
	driftErr    error
	shadows     []redirect.Shadow
	counters    map[policy.Reason]uint64
	countersErr error
	rooms       []kernel.Room
	roomErr     error
	asked       []identity.Name // of the last Room
	results     []probe.Result
	probeErr    error
	left        time.Duration // until the deadline; 0: there is none
	confirmErr  error
}

func (k *fakeKernel) Hooks() ([]bpf.Hook, error)          { return k.hooks, k.hooksErr }
func (k *fakeKernel) Drift() ([]string, error)            { return k.drift, k.driftErr }
func (k *fakeKernel) Shadows() ([]redirect.Shadow, error) { return k.shadows, nil }
func (k *fakeKernel) Revision() kernel.Revision           { return kernel.Revision{Number: 7} }
func (k *fakeKernel) Counters() (given, lost map[policy.Reason]uint64, err error) {
	return k.counters, nil, k.countersErr
}
func (k *fakeKernel) Results(context.Context) ([]probe.Result, error) { return k.results, k.probeErr }
func (k *fakeKernel) Left() (left time.Duration, open bool)           { return k.left, k.left > 0 }
func (k *fakeKernel) Confirm() (had bool, err error)                  { return k.left > 0, k.confirmErr }
func (k *fakeKernel) Room(s []identity.Name) ([]kernel.Room, error) {
	k.asked = s
	return k.rooms, k.roomErr
}

func (k *fakeKernel) Plan() redirect.Plan {
	return redirect.NewPlan(redirect.Config{Range4: netip.MustParsePrefix("240.64.0.0/10")})
}

type fakeProxy struct {
	memory limits.Use
	flows  []tproxy.Flow
	lanes  []lane.Info

	ejected map[balance.Key]balance.Ejected
}

func (p *fakeProxy) Flows() []tproxy.Flow { return p.flows }
func (p *fakeProxy) Lanes() []lane.Info   { return p.lanes }
func (p *fakeProxy) Cut() map[policy.Reason]uint64 {
	return map[policy.Reason]uint64{policy.ReasonProof: 4}
}
func (p *fakeProxy) Refused() (int, map[policy.Reason]uint64) {
	return 3, map[policy.Reason]uint64{policy.ReasonShare: 9}
}
func (p *fakeProxy) Descriptors() limits.Use                               { return limits.Use{Used: 100, Limit: 256} }
func (p *fakeProxy) Memory() limits.Use                                    { return p.memory }
func (p *fakeProxy) Draining() string                                      { return "" }
func (p *fakeProxy) Ejected(identity.Name) map[balance.Key]balance.Ejected { return p.ejected }

// certificates are good until a time.
type certificates struct {
	from, until time.Time
	err         error // what Check finds
}

func (c *certificates) Check() error { return c.err }

func (c *certificates) Served() []membership.Served {
	return []membership.Served{{ID: identity.NodeID("mesh.test", "host1"), NotBefore: c.from, NotAfter: c.until, RenewAt: c.until}}
}

// names knows db and web, and no other name.
type names struct{}

func (names) Service(name string) (service identity.Name, why string) {
	switch first, _, _ := strings.Cut(name, "."); first {
	case "db", "web":
		return identity.Name(first), "it is a service"
	}
	return "", "no service has that name"
}

func (names) Virtual(name identity.Name) (v4, v6 netip.Addr) {
	n := byte(len(name))
	return netip.AddrFrom4([4]byte{240, 64, 0, n}), netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
}

func (names) Outside(_ context.Context, name identity.Name) []string {
	if name == "intranet" {
		return []string{"intranet.corp.example exists"}
	}
	return nil
}

func (names) Rebinding() uint64 { return 5 }

func (names) Foreign(a netip.Addr) error {
	if a == netip.MustParseAddr("10.0.0.1") {
		return errors.New("10.0.0.1 is this node's own address")
	}
	return nil
}

func (names) Reached(catalog.Instance) []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("203.0.113.5:5432")}
}

// says renders an error as the CLI gets it: exit status, message, and in
// brackets the hint, and the nodes that could do it.
func says(err error) string {
	if err == nil {
		return "done"
	}
	e := api.AsError(err)
	out := fmt.Sprintf("%d: %s", e.Code, e.Message)
	if e.Hint != "" {
		out += " [" + e.Hint + "]"
	}
	if len(e.Nodes) > 0 {
		out += fmt.Sprintf(" on %s", strings.Join(e.Nodes, ", "))
	}
	return out
}

// differs fails the test unless two texts are equal.
func differs(t *testing.T, what, got, want string) {
	t.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}
