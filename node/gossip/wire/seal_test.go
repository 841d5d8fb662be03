// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"tacit/identity"
)

// members are sealers that know each other.
type members map[identity.Name]*sealer

func newMembers(t testing.TB, names ...identity.Name) members {
	t.Helper()
	m := members{}
	for _, name := range names {
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		m[name] = newSealer(Config{Self: name, Mesh: "mesh.test", Key: key, Peer: m.peer})
	}
	return m
}

func (m members) peer(name identity.Name) (Peer, bool) {
	s, ok := m[name]
	if !ok {
		return Peer{}, false
	}
	return Peer{Public: s.key.Public()}, true
}

func (m members) seal(t testing.TB, from, to identity.Name, text string) []byte {
	t.Helper()
	packet, err := m[from].seal(to, m[to].key.Public(), 'k', []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(packet) != len(text)+Overhead(from) {
		t.Errorf("a packet of %d bytes for %d, and an overhead of %d", len(packet), len(text), Overhead(from))
	}
	return packet
}

// TestSealedPackets: a packet proves its sender to its receiver, and nothing else
// opens.
func TestSealedPackets(t *testing.T) {
	m := newMembers(t, "a", "b", "c")
	open := func(packet []byte) error {
		from, kind, body, err := m["b"].open(packet)
		if err == nil && (from != "a" || kind != 'k' || string(body) != "hello") {
			t.Errorf("%s sent %c %q", from, kind, body)
		}
		return err
	}
	for name, c := range map[string]struct {
		packet func() []byte
		want   error
	}{
		"sound":              {func() []byte { return m.seal(t, "a", "b", "hello") }, nil},
		"empty":              {func() []byte { return nil }, errForm},
		"another version":    {func() []byte { p := m.seal(t, "a", "b", "hello"); p[0]++; return p }, errForm},
		"no name":            {func() []byte { p := m.seal(t, "a", "b", "hello"); p[1] = 0; return p }, errForm},
		"a name of 255":      {func() []byte { p := m.seal(t, "a", "b", "hello"); p[1] = 255; return p }, errForm},
		"cut off":            {func() []byte { return m.seal(t, "a", "b", "hello")[:30] }, errForm},
		"for another member": {func() []byte { return m.seal(t, "a", "c", "hello") }, errForged},
		"in another's name":  {func() []byte { p := m.seal(t, "c", "b", "hello"); p[2] = 'a'; return p }, errForged},
		"a stranger's":       {func() []byte { p := m.seal(t, "a", "b", "hello"); p[2] = 'z'; return p }, errStranger},
		"to itself":          {func() []byte { p := m.seal(t, "b", "a", "hello"); return p }, errForged},
		"another start":      {func() []byte { p := m.seal(t, "a", "b", "hello"); p[5]++; return p }, errForged},
		"another number":     {func() []byte { p := m.seal(t, "a", "b", "hello"); p[18]++; return p }, errForged},
		"changed":            {func() []byte { p := m.seal(t, "a", "b", "hello"); p[len(p)-1]++; return p }, errForged},
		"another mesh": {func() []byte {
			other := newSealer(Config{Self: "a", Mesh: "other.test", Key: m["a"].key})
			p, err := other.seal("b", m["b"].key.Public(), 'k', []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, errForged},
	} {
		if err := open(c.packet()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestRevokedPackets: from the moment at which a node isn't a member here, its packets
// are a stranger's, and one of another key with its name has no part in the old one.
func TestRevokedPackets(t *testing.T) {
	m := newMembers(t, "a", "b")
	before, after := m.seal(t, "a", "b", "before"), m.seal(t, "a", "b", "after")
	if _, _, _, err := m["b"].open(before); err != nil {
		t.Fatal(err)
	}
	revoked := m["a"]
	delete(m, "a")
	if _, _, _, err := m["b"].open(after); !errors.Is(err, errStranger) || len(m["b"].pairs) != 0 {
		t.Errorf("revoked: %v, and %d keys are kept", err, len(m["b"].pairs))
	}
	m["a"] = newMembers(t, "a")["a"] // joined again, with a new key
	m["a"].peer = m.peer
	if _, _, _, err := m["b"].open(m.seal(t, "a", "b", "again")); err != nil {
		t.Errorf("after it joined again: %v", err)
	}
	late, err := revoked.seal("b", m["b"].key.Public(), 'k', []byte("late"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := m["b"].open(late); !errors.Is(err, errForged) {
		t.Errorf("by the revoked key: %v", err)
	}
}

// TestReplayedPackets: each counts once, in any order, and those of an earlier start
// not at all, unless the sender's clock was set back.
func TestReplayedPackets(t *testing.T) {
	m := newMembers(t, "a", "b")
	open := func(p []byte) error { _, _, _, err := m["b"].open(bytes.Clone(p)); return err }
	one, two, three := m.seal(t, "a", "b", "1"), m.seal(t, "a", "b", "2"), m.seal(t, "a", "b", "3")
	for i, p := range [][]byte{three, one, two} {
		if err := open(p); err != nil {
			t.Errorf("packet %d: %v", i, err)
		}
		if err := open(p); !errors.Is(err, errReplay) {
			t.Errorf("packet %d again: %v", i, err)
		}
	}
	restarted := newSealer(Config{Self: "a", Mesh: "mesh.test", Key: m["a"].key, Peer: m.peer})
	old := m["a"]
	m["a"] = restarted
	fresh := m.seal(t, "a", "b", "after a restart")
	if err := open(fresh); err != nil {
		t.Fatal(err)
	}
	m["a"] = old
	late := m.seal(t, "a", "b", "of the start before")
	if err := open(late); !errors.Is(err, errReplay) {
		t.Errorf("an earlier start: %v", err)
	}
	m["b"].now = func() time.Time { return time.Now().Add(quiet + time.Second) }
	if err := open(late); err != nil {
		t.Errorf("a sender whose clock was set back is not heard: %v", err)
	}
}

func TestWindow(t *testing.T) {
	w := window{}
	for _, c := range []struct {
		n    uint64
		want bool
	}{{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {3, false}, {windowSize + 1, true}, {1, false}, {windowSize, true}, {5, true},
		{1 << 40, true}, {5, false}, {1<<40 - windowSize + 1, true}, {1<<40 - windowSize, false}, {1<<40 + 3, true}, {1<<40 + 1, true}, {1 << 40, false}} {
		if got := w.add(c.n); got != c.want {
			t.Errorf("%d: %v, want %v", c.n, got, c.want)
		}
	}
	w = window{}
	for n := uint64(1); n < 10*windowSize; n++ {
		if !w.add(n) || w.add(n) {
			t.Fatalf("number %d", n)
		}
	}
}

func FuzzOpen(f *testing.F) {
	m := newMembers(f, "a", "b")
	f.Add(m.seal(f, "a", "b", "hello"))
	f.Add([]byte("\x01\xff"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if from, _, _, err := m["b"].open(packet); err == nil && from != "a" {
			t.Errorf("%q proves %s", packet, from)
		}
	})
}

func BenchmarkOpenForged(b *testing.B) {
	m := newMembers(b, "a", "b")
	packet := m.seal(b, "a", "b", string(make([]byte, 1000)))
	for i := range b.N {
		packet[5], packet[6], packet[7] = byte(i), byte(i>>8), byte(i>>16) // a start of its own
		if _, _, _, err := m["b"].open(packet); err == nil && i > 0 {
			b.Fatal("opened")
		}
	}
}
