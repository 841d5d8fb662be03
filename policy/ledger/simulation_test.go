// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// host is one node of the simulated mesh.
type host struct {
	name  identity.Name
	key   *identity.Key
	op    *identity.Key // nil without an operator key
	l     *Ledger
	kept  keeper
	inbox [][]Record
	side  int // hosts on different sides of a partition don't reach each other
}

// sim is five hosts, two with operator keys, and a network that drops, duplicates
// and reorders.
type sim struct {
	*mesh
	r     *rand.Rand
	hosts []*host
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{mesh: newMesh(t), r: rand.New(rand.NewPCG(seed, 0))}
	keys := []*identity.Key{s.n1, s.n2, newKey(t), newKey(t), newKey(t)}
	for i, k := range keys {
		name := identity.Name(fmt.Sprintf("n%d", i+1))
		if i > 1 {
			s.member(s.auth, name, k)
		}
		s.grant(name, "db")
		s.hosts = append(s.hosts, &host{name: name, key: k, kept: keeper{}})
	}
	s.hosts[0].op, s.hosts[1].op = s.op, s.op2
	for _, h := range s.hosts {
		h.l = s.empty()
		s.receive(h, s.l.Records())
	}
	return s
}

// receive merges and stores records, and sends changed ones on, as gossip does.
func (s *sim) receive(h *host, recs []Record) {
	changed, _ := h.l.Merge(recs)
	h.kept.keep(changed)
	s.spread(h, changed)
}

func (s *sim) spread(from *host, recs []Record) {
	for _, h := range s.hosts {
		if h == from || h.side != from.side || len(recs) == 0 {
			continue
		}
		for range []int{0, 1, 1, 2}[s.r.IntN(4)] { // lost, once, once, twice
			h.inbox = append(h.inbox, recs)
		}
	}
}

// step performs one random action on one host.
func (s *sim) step() {
	h := s.hosts[s.r.IntN(len(s.hosts))]
	switch n := s.r.IntN(20); {
	case n < 8 && len(h.inbox) > 0: // in random order
		i := s.r.IntN(len(h.inbox))
		recs := h.inbox[i]
		h.inbox = slices.Delete(h.inbox, i, i+1)
		s.receive(h, recs)
	case n < 11 && h.op != nil:
		s.govern(h)
	case n < 14:
		s.instances(h)
	case n < 16:
		s.exchange(h, s.hosts[s.r.IntN(len(s.hosts))])
	case n == 16:
		h.side = s.r.IntN(2)
	case n == 17:
		s.restart(h)
	case n == 18: // replay an old record
		s.receive(h, s.made[s.r.IntN(len(s.made)):])
	}
}

func (s *sim) govern(h *host) {
	names := []identity.Name{"web", "db", policy.Any}
	src, dst := names[s.r.IntN(3)], names[s.r.IntN(3)]
	node := s.hosts[s.r.IntN(len(s.hosts))].name
	switch s.r.IntN(7) {
	case 6:
		s.try(h, h.op, KindResolver, "db", resolver.Rules{Service: "db", Failover: []identity.Name{"web"}}, s.r.IntN(3) == 0)
	case 0:
		s.try(h, h.op, KindIntention, string(src+">"+dst), nil, true)
	case 1:
		s.try(h, h.op, KindGrant, string(node)+"/db", nil, s.r.IntN(2) == 0)
	case 2:
		s.try(h, h.op, KindGrant, string(node)+"/db", statement.Grant{Node: node, Service: "db"}, false)
	default:
		s.try(h, h.op, KindIntention, string(src+">"+dst),
			policy.Intention{Source: src, Destination: dst, Action: policy.Action(1 + s.r.IntN(2)), Description: strconv.Itoa(len(s.made))}, false)
	}
}

func (s *sim) instances(h *host) {
	id := strconv.Itoa(s.r.IntN(3))
	s.try(h, h.key, KindInstance, string(h.name)+"/"+id,
		statement.Instance{Node: h.name, Service: "db", ID: id, Port: uint16(len(s.made))}, s.r.IntN(3) == 0)
}

// try signs, if the host may.
func (s *sim) try(h *host, k *identity.Key, kind Kind, key string, body any, del bool) {
	r, err := h.l.Sign(k, kind, key, body, del)
	if err != nil {
		return
	}
	s.made = append(s.made, r)
	h.kept.keep([]Record{r})
	s.spread(h, []Record{r})
}

func (s *sim) exchange(a, b *host) {
	if a.side == b.side {
		to, back := a.l.Records(), b.l.Records()
		s.receive(b, to)
		s.receive(a, back)
	}
}

func (s *sim) restart(h *host) {
	fresh := s.empty()
	if err := fresh.Restore(h.kept.records(), h.l.Seen()); err != nil {
		s.Fatal(err)
	}
	s.same(fresh, h.l)
	h.l = fresh
}

// heal ends all partitions and exchanges all records.
func (s *sim) heal() {
	for _, h := range s.hosts {
		h.side, h.inbox = 0, nil
	}
	for range 3 {
		for _, a := range s.hosts {
			for _, b := range s.hosts {
				s.exchange(a, b)
			}
		}
	}
}

func (s *sim) agree(when string) {
	s.Helper()
	first := s.hosts[0].l
	for _, h := range s.hosts[1:] {
		if h.l.Digest() != first.Digest() {
			s.Fatalf("%s: %s and %s differ:\n%s\n%s", when, s.hosts[0].name, h.name, dump(first), dump(h.l))
		}
		if !reflect.DeepEqual(h.l.Intentions(), first.Intentions()) || !reflect.DeepEqual(h.l.Instances(), first.Instances()) ||
			!reflect.DeepEqual(h.l.Members(), first.Members()) || !reflect.DeepEqual(h.l.Operators(), first.Operators()) {
			s.Fatalf("%s: equal digests, different views", when)
		}
	}
}

// TestSimulation: five hosts with partitions, loss, duplicates, reordering and
// restarts, and a revoked operator and node. TACIT_SEED repeats a run.
func TestSimulation(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, rand.Uint64(), rand.Uint64(), rand.Uint64()}
	if text := os.Getenv("TACIT_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { simulate(newSim(t, seed)) })
	}
}

func simulate(s *sim) {
	absent := s.hosts[4]
	for range 150 {
		s.step()
	}
	s.heal()
	s.agree("after healing")
	stale := s.copyOf(absent.l)
	for i := range 300 {
		s.step()
		if i == 100 {
			s.try(s.hosts[0], s.op, KindRevocation, s.hosts[3].key.ID().String(), statement.Revocation{Public: s.hosts[3].key.ID()}, false)
		}
		if i == 200 && s.r.IntN(2) == 0 {
			s.try(s.hosts[2], s.root, KindRevocation, s.op2.ID().String(), statement.Revocation{Public: s.op2.ID()}, false)
		}
	}
	s.heal()
	s.agree("after revocations")

	// The stale node returns: no old record comes back, and the node catches up.
	before := s.hosts[0].l.Digest()
	for _, h := range s.hosts {
		h.l.Merge(stale.Records())
	}
	s.agree("after the stale node's return")
	s.replay(before)
	stale.Merge(s.hosts[0].l.Records())
	s.same(stale, s.hosts[0].l)
}

// replay merges every record ever signed, in random order, on every host.
func (s *sim) replay(want [32]byte) {
	all := slices.Clone(s.made)
	s.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, h := range s.hosts {
		h.l.Merge(all)
		for piece := range slices.Chunk(all, 10) {
			h.l.Merge(piece)
		}
		if h.l.Digest() != want {
			s.Fatalf("replaying %d records changes the digest of %s", len(all), h.name)
		}
	}
}
