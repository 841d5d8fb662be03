// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/gossip/wire"
)

// owner is a delegate that records what it receives.
type owner struct {
	mu      sync.Mutex
	state   []byte
	merged  []string
	forged  int // what Merge returns
	refuse  error
	cuts    []string
	changes atomic.Int64
}

func (o *owner) State() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

func (o *owner) Merge(from identity.Name, p []byte) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.merged = append(o.merged, string(p))
	return o.forged
}

func (o *owner) Admit(identity.Name, netip.AddrPort) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refuse
}

func (o *owner) Changed() { o.changes.Add(1) }

func (o *owner) cut(member identity.Name, why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cuts = append(o.cuts, fmt.Sprint(member, ": ", why))
}

func (o *owner) count(p string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, m := range o.merged {
		if m == p {
			n++
		}
	}
	return n
}

// roll is the members of a test's mesh, as signed records would say.
type roll struct {
	*identity.Authority
	mu      sync.Mutex
	keys    map[identity.Name]*identity.Key
	at      map[identity.Name]netip.AddrPort
	revoked map[identity.Name]bool
	apart   func(a, b identity.Name) bool // nil: everybody reaches everybody
	now     func() time.Time
}

func newRoll(t testing.TB) *roll {
	t.Helper()
	a, err := identity.CreateAuthority("example.test", "authority", t.TempDir(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &roll{Authority: a, keys: map[identity.Name]*identity.Key{}, at: map[identity.Name]netip.AddrPort{}, revoked: map[identity.Name]bool{}, now: time.Now}
}

func (r *roll) revoke(name identity.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked[name] = true
}

// part separates nodes, or joins all of them with nil.
func (r *roll) part(apart func(a, b identity.Name) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apart = apart
}

// peer is how self sees a member.
func (r *roll) peer(self identity.Name) func(identity.Name) (wire.Peer, bool) {
	return func(name identity.Name) (wire.Peer, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		key := r.keys[name]
		if key == nil || r.revoked[name] || r.apart != nil && r.apart(self, name) {
			return wire.Peer{}, false
		}
		return wire.Peer{Public: key.Public(), Addr: r.at[name]}, true
	}
}

func (r *roll) seeds() []Seed {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Seed
	for name, at := range r.at {
		if !r.revoked[name] {
			out = append(out, Seed{name, at.String()})
		}
	}
	return out
}

// source is a node's certificate.
type source struct {
	svid   *identity.SVID
	bundle *identity.Bundle
}

func (s source) NodeSVID() *identity.SVID { return s.svid }
func (s source) Bundle() *identity.Bundle { return s.bundle }

// config makes name a member, whose address the others know once it starts.
func (r *roll) config(t testing.TB, name, ip string, o *owner) Config {
	t.Helper()
	self := identity.MustName(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.keys[self]
	if key == nil {
		var err error
		if key, err = identity.NewKey(); err != nil {
			t.Fatal(err)
		}
		r.keys[self] = key
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := r.IssueNode(csr, self)
	if err != nil {
		t.Fatal(err)
	}
	svid := &identity.SVID{ID: identity.NodeID("example.test", self), Chain: chain, Key: key}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	return Config{Log: log, Name: self, Bind: netip.MustParseAddr(ip), Port: r.at[self].Port(), Mesh: "example.test", Key: key, Identities: source{svid, r.Authority.Bundle()},
		Peer: r.peer(self), Seeds: r.seeds, Delegate: o, Cut: o.cut}
}

// start starts a node; the others find it, and it finds them.
func (r *roll) start(t testing.TB, cfg Config) *Pool {
	t.Helper()
	p, err := start(cfg, r.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[cfg.Name] = p.Addr()
	return p
}

// slow is how much longer than on a quiet machine something may take before a test fails.
const slow = 5

// within polls until ok holds and returns how long that took.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(begin) > slow*limit {
			t.Fatalf("%s: not within %v", what, slow*limit)
		}
		<-tick.C
	}
	return time.Since(begin)
}

func find(p *Pool, name string) Member {
	all := p.Members()
	i := slices.IndexFunc(all, func(m Member) bool { return string(m.Name) == name })
	if i < 0 {
		return Member{}
	}
	return all[i]
}

func alive(p *Pool) int {
	n := 0
	for _, m := range p.Members() {
		if m.Alive {
			n++
		}
	}
	return n
}

// mesh starts n pools that know each other.
func mesh(t testing.TB, n, subnet int) (*roll, []*Pool, []*owner) {
	t.Helper()
	r := newRoll(t)
	pools, owners := make([]*Pool, n), make([]*owner, n)
	for i := range n {
		owners[i] = &owner{}
		pools[i] = r.start(t, r.config(t, fmt.Sprintf("n%d", i), fmt.Sprintf("127.0.%d.%d", subnet, i+1), owners[i]))
	}
	for i := range n {
		within(t, 8*time.Second, "everybody is a member", func() bool { return alive(pools[i]) == n })
	}
	return r, pools, owners
}
