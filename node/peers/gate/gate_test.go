// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/policy"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// home is the address of the only member.
const home = "10.0.0.1"

// roll has a member at home, and others that are elsewhere, but for one that has left.
type roll struct{ left identity.Name }

func (*roll) Home(a netip.Addr) bool        { return a == addr(home) }
func (r *roll) Member(n identity.Name) bool { return n != r.left }

func newGate() *Gate { return New(&roll{}) }

// enter has n connections come from an address, and returns those that got in
// and why the last one that didn't was refused. Nobody leaves.
func enter(g *Gate, from string, n int) (in []*Place, why policy.Reason) {
	for range n {
		p, no := g.Enter(addr(from), func() {})
		if p == nil {
			why = no
			continue
		}
		in = append(in, p)
	}
	return in, why
}

// TestShares: how many of a hundred connections get in at once.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		name string
		from []string // in turn
		in   int
		why  policy.Reason
	}{
		{"an address", []string{"192.0.2.1"}, 16, policy.ReasonShare},
		{"two addresses", []string{"192.0.2.1", "192.0.2.2"}, 32, policy.ReasonShare},
		{"an address and its mapped form", []string{"192.0.2.1", "::ffff:192.0.2.1"}, 16, policy.ReasonShare},
		{"a network of IPv6", []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"}, 16, policy.ReasonShare},
		{"two networks of IPv6", []string{"2001:db8::1", "2001:db8:0:1::1"}, 32, policy.ReasonShare},
		{"a link-local address on two interfaces", []string{"fe80::1%eth0", "fe80::1%eth1"}, 16, policy.ReasonShare},
		{"a member", []string{home}, 64, policy.ReasonShare},
		{"a member and a stranger", []string{home, "192.0.2.1"}, 66, policy.ReasonShare}, // 50 tries of the member
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate()
			in, why := 0, policy.Reason("")
			for i := range 100 {
				p, no := enter(g, c.from[i%len(c.from)], 1)
				if in += len(p); no != "" {
					why = no
				}
			}
			if in != c.in || why != c.why {
				t.Errorf("%s: %d got in, %q; want %d, %q", c.name, in, why, c.in, c.why)
			}
			if inside, refused := g.Report(); inside != c.in || refused[c.why] != uint64(100-c.in) {
				t.Errorf("%s: reports %d, %v", c.name, inside, refused)
			}
		})
	}
}

// TestStrangersDontStopMembers: neither from many addresses nor by coming often.
func TestStrangersDontStopMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		for round := range 20 {
			for i := range 1000 {
				enter(g, fmt.Sprintf("192.0.%d.%d", i/250, i%250), 3)
			}
			if inside, _ := g.Report(); inside != 192 {
				t.Fatalf("%d strangers are in", inside)
			}
			for range 100 {
				in, why := enter(g, home, 1)
				if len(in) != 1 {
					t.Fatalf("round %d: a member is refused: %s", round, why)
				}
				in[0].Leave()
			}
			<-time.After(300 * time.Millisecond)
		}
		if _, refused := g.Report(); refused[policy.ReasonLimit] == 0 {
			t.Error("no stranger was refused")
		}
	})
}

// TestSilentOnesGiveWay after a second, the oldest first, and not while something is done for them.
func TestSilentOnesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		var evicted []int
		var places []*Place
		for i := range 16 {
			p, why := g.Enter(addr("192.0.2.1"), func() { evicted = append(evicted, i) })
			if p == nil {
				t.Fatal(why)
			}
			places = append(places, p)
		}
		places[0].Settle()
		if in, why := enter(g, "192.0.2.1", 1); len(in) != 0 || why != policy.ReasonShare || len(evicted) != 0 {
			t.Fatalf("a newcomer displaced a young one: %v", evicted)
		}
		<-time.After(time.Second)
		if in, _ := enter(g, "192.0.2.1", 2); len(in) != 2 || fmt.Sprint(evicted) != "[1 2]" {
			t.Errorf("%d got in, %v gave way", len(in), evicted)
		}
		if places[1].Evicted() != policy.ReasonShare || places[0].Evicted() != "" {
			t.Error("the reason is missing")
		}
		places[1].Leave() // has left already
		if inside, refused := g.Report(); inside != 16 || refused[policy.ReasonShare] != 3 {
			t.Errorf("%d inside, refused %v", inside, refused)
		}
	})
}

// TestRate: whoever leaves at once may enter 40 times, then 20 times a second.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		begin, in := time.Now(), 0
		for time.Since(begin) < 10*time.Second {
			if p, _ := g.Enter(addr("192.0.2.1"), func() {}); p != nil {
				in++
				p.Leave()
			}
			<-time.After(time.Millisecond)
		}
		if in < 230 || in > 241 {
			t.Errorf("%d entered in 10 s, want 240", in)
		}
	})
}

// TestMemory: many networks that come and go are forgotten.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		for i := range 5_000 {
			if p, _ := g.Enter(netip.AddrFrom16([16]byte{0x20, 1, 1, byte(i >> 16), byte(i >> 8), byte(i)}), func() {}); p != nil {
				p.Leave()
			}
			<-time.After(time.Millisecond)
		}
		if n := len(g.strangers.visitors); n > 2*minSweep {
			t.Errorf("%d visitors are remembered", n)
		}
		for i := range 5_000 {
			g.Seen(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), identity.Name(fmt.Sprint("n", i/16)))
		}
		if n := len(g.seen); n != maxSeen {
			t.Errorf("%d sightings are remembered", n)
		}
	})
}

// TestSeen: where a member came from counts as its address for an hour.
func TestSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		const behind = "2001:db8::7"
		g.Seen(addr(behind), "n2")
		for _, c := range []struct {
			from string
			in   int
		}{{behind, 64}, {"2001:db8::8", 16}} {
			if in, _ := enter(g, c.from, 100); len(in) != c.in {
				t.Errorf("%s: %d got in, want %d", c.from, len(in), c.in)
			}
		}
		for i := range 100 { // one member vouches for few
			g.Seen(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), "n2")
		}
		if len(g.seen) != maxPerNode {
			t.Errorf("%d addresses of one node", len(g.seen))
		}
		g.roll = &roll{left: "n2"}
		if in, _ := enter(g, behind, 100); len(in) > 16 {
			t.Errorf("%d got in from where a node was that has left", len(in))
		}
		g.roll = &roll{}
		<-time.After(sightFor)
		if in, _ := enter(g, behind, 100); len(in) > 16 {
			t.Errorf("%d got in after an hour", len(in))
		}
	})
}
