// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

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
	disk  disk
	copy  *disk // an image that may be restored
	inbox [][]Record
	side  int            // hosts on different sides of a partition don't reach each other
	clock uint64         // seconds since the simulation began, and how far it is off
	heard bool           // a member was reached since the start, or --alone
	runs  map[string]int // port of what runs on it, by instance id
}

// disk is what a restart reads.
type disk struct {
	kept  keeper
	last  map[identity.KeyID]uint64
	epoch uint64
	knows map[int]bool // the records of made that were merged
}

func (d *disk) clone() *disk {
	return &disk{maps.Clone(d.kept), maps.Clone(d.last), d.epoch, maps.Clone(d.knows)}
}

// sim is five hosts, two with operator keys, and a network that drops, duplicates
// and reorders.
type sim struct {
	*mesh
	r     *rand.Rand
	hosts []*host
	index map[string]int // in made, by signature
	saw   []map[int]bool // by index in made: what its signer knew
}

const hour = 3600

func newSim(m *mesh, seed uint64) *sim {
	s := &sim{mesh: m, r: rand.New(rand.NewPCG(seed, 0)), index: map[string]int{}, saw: make([]map[int]bool, len(m.made))}
	s.made = slices.Clone(m.made)
	for i, r := range s.made {
		s.index[string(r.Signature)] = i
	}
	for i, k := range []*identity.Key{s.n1, s.n2, s.n3, s.n4, s.n5} {
		h := &host{name: identity.Name(fmt.Sprintf("n%d", i+1)), key: k, l: s.empty(), runs: map[string]int{}, heard: true,
			disk: disk{kept: keeper{}, knows: map[int]bool{}}, clock: 10*hour + uint64(s.r.IntN(2*hour))}
		s.hosts = append(s.hosts, h)
		s.receive(h, s.l.Records())
		s.start(h)
	}
	s.hosts[0].op, s.hosts[1].op = s.op, s.op2
	return s
}

// newSimMesh has five members with grants, and verifies each signature once.
func newSimMesh(t *testing.T) *mesh {
	m := newMesh(t)
	m.remember()
	m.n3, m.n4, m.n5 = newKey(t), newKey(t), newKey(t)
	for name, k := range map[identity.Name]*identity.Key{"n3": m.n3, "n4": m.n4, "n5": m.n5} {
		m.member(m.auth, name, k)
	}
	for i := range 5 {
		m.grant(identity.Name(fmt.Sprintf("n%d", i+1)), "db")
	}
	return m
}

// receive merges and stores records, and sends changed ones on, as gossip does.
func (s *sim) receive(h *host, recs []Record) {
	changed, _ := h.l.Merge(recs)
	s.keep(h, changed)
	s.spread(h, changed)
}

func (s *sim) keep(h *host, changed []Record) {
	h.disk.kept.keep(h.l, changed)
	h.disk.last = h.l.Last()
	for _, r := range changed {
		h.disk.knows[s.index[string(r.Signature)]] = true
	}
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
	h := s.hosts[s.r.IntN(7)%len(s.hosts)] // operators more often
	h.clock += uint64(s.r.IntN(60))
	switch n := s.r.IntN(24); {
	case n < 8 && len(h.inbox) > 0: // in random order
		i := s.r.IntN(len(h.inbox))
		recs := h.inbox[i]
		h.inbox = slices.Delete(h.inbox, i, i+1)
		s.receive(h, recs)
	case n < 11 && h.op != nil && h.heard:
		s.govern(h)
	case n < 14:
		s.instances(h)
	case n < 16:
		s.exchange(h, s.hosts[s.r.IntN(len(s.hosts))])
	case n == 16:
		h.side = s.r.IntN(2)
	case n == 17:
		s.restart(h)
	case n == 18: // replay old records
		s.receive(h, s.made[s.r.IntN(len(s.made)):])
	case n == 19:
		h.copy = h.disk.clone()
	case n < 23 && h.copy != nil:
		s.rollBack(h)
	case n == 23:
		h.clock = uint64(max(0, int(h.clock)+(s.r.IntN(3)-1)*hour))
	}
}

// rollBack restores an image, and something is done before others are heard.
func (s *sim) rollBack(h *host) {
	h.disk = *h.copy.clone()
	s.start(h)
	for h.op != nil && h.heard && s.r.IntN(3) > 0 {
		s.govern(h)
	}
}

func (s *sim) govern(h *host) {
	names := []identity.Name{"web", policy.Any}
	src, dst := names[s.r.IntN(2)], names[s.r.IntN(2)]
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

// instances starts or stops a program.
func (s *sim) instances(h *host) {
	id := strconv.Itoa(s.r.IntN(3))
	if h.runs[id] = len(s.made); s.r.IntN(3) == 0 {
		delete(h.runs, id)
	}
	s.publish(h, id)
	if s.r.IntN(5) == 0 {
		s.compact(h)
	}
}

// compact has others forget what a host has withdrawn.
func (s *sim) compact(h *host) {
	recs, err := h.l.compaction(h.key, h.name, 0)
	if err != nil {
		return // revoked
	}
	for _, r := range recs {
		s.note(h, r)
	}
	h.l.Merge(recs)
	s.keep(h, recs)
	s.spread(h, recs)
}

func (s *sim) publish(h *host, id string) {
	port, runs := h.runs[id]
	s.try(h, h.key, KindInstance, string(h.name)+"/"+id, statement.Instance{Node: h.name, Service: "db", ID: id, Port: uint16(port)}, !runs)
}

// try signs, if the host may.
func (s *sim) try(h *host, k *identity.Key, kind Kind, key string, body any, del bool) {
	r, err := h.l.Sign(k, kind, key, body, del)
	if err != nil {
		return
	}
	s.note(h, r)
	s.keep(h, []Record{r})
	s.spread(h, []Record{r})
}

// note remembers a record, and what its signer knew.
func (s *sim) note(h *host, r Record) {
	s.proven.Store(string(r.Signature), true)
	s.index[string(r.Signature)] = len(s.made)
	s.made, s.saw = append(s.made, r), append(s.saw, maps.Clone(h.disk.knows))
}

func (s *sim) exchange(a, b *host) {
	if a.side == b.side && a != b {
		to, back := a.l.Records(), b.l.Records()
		s.receive(b, to)
		s.receive(a, back)
		a.heard, b.heard = true, true
	}
}

func (s *sim) restart(h *host) {
	before := h.l
	s.start(h)
	s.same(before, h.l)
}

// start reads the disk, in a new epoch.
func (s *sim) start(h *host) {
	h.l = s.empty()
	if err := h.l.Restore(h.disk.kept.records(), h.disk.last); err != nil {
		s.Fatal(err)
	}
	h.disk.epoch = Epoch(time.Unix(int64(h.clock), 0), s.r.Uint64(), h.disk.epoch)
	h.l.Begin(h.disk.epoch)
	h.heard = s.r.IntN(2) == 0 // --alone
}

// heal ends all partitions and exchanges all records.
func (s *sim) heal() {
	for _, h := range s.hosts {
		h.side, h.inbox = 0, nil
	}
	for range 2 {
		for _, h := range s.hosts {
			s.exchange(s.hosts[0], h)
		}
	}
	for _, h := range s.hosts {
		h.inbox = nil
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

// seedVariable names the variable that repeats one seed.
const seedVariable = "TACIT_SEED"

// TestSimulation: five hosts with partitions, loss, duplicates, reordering, restarts,
// roll-backs, replays, clocks an hour off, and a revoked operator and node. No rule is
// lost, and all agree. TACIT_SEED repeats a run.
func TestSimulation(t *testing.T) {
	var seeds []uint64
	for n := range 500 {
		seeds = append(seeds, uint64(n))
	}
	for range 10 {
		seeds = append(seeds, rand.Uint64())
	}
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	base := newSimMesh(t)
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			m := *base
			m.T = t
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("repeat: %s=%d go test ./policy/ledger -run TestSimulation", seedVariable, seed)
				}
			})
			simulate(newSim(&m, seed))
		})
	}
}

func simulate(s *sim) {
	absent := s.hosts[4]
	for range 60 {
		s.step()
	}
	s.heal()
	s.agree("after healing")
	stale := s.copyOf(absent.l)
	for i := range 100 {
		s.step()
		if i == 40 {
			s.try(s.hosts[0], s.op, KindRevocation, s.hosts[3].key.ID().String(), statement.Revocation{Public: s.hosts[3].key.ID()}, false)
		}
		if i == 80 && s.r.IntN(2) == 0 {
			s.try(s.hosts[2], s.root, KindRevocation, s.op2.ID().String(), statement.Revocation{Public: s.op2.ID()}, false)
		}
	}
	s.heal()
	s.replay() // what only a lost disk knew
	s.agree("after revocations")
	s.nothingLost()

	// The stale node returns: no old record comes back, and the node catches up.
	before := s.hosts[0].l.Digest()
	for _, h := range s.hosts {
		h.l.Merge(stale.Records())
	}
	s.replay()
	s.agree("after the stale node's return")
	if s.hosts[0].l.Digest() != before {
		s.Fatal("replaying old records changes the digest")
	}
	stale.Merge(s.hosts[0].l.Records())
	s.same(stale, s.hosts[0].l)
	s.whatRuns()
}

// replay merges every record ever signed, in random order, on every host.
func (s *sim) replay() {
	all := slices.Clone(s.made)
	s.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, h := range s.hosts {
		for piece := range slices.Chunk(all, len(all)/2) {
			h.l.Merge(piece)
		}
	}
}
