// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
)

// TestOffenderIsCut: a member whose payloads are forged is cut off within 5 s, on this
// node alone; the members that merely live on the same mesh are not, and their
// payloads arrive meanwhile.
func TestOffenderIsCut(t *testing.T) {
	testhost.VerifyNone(t)
	_, pools, owners := mesh(t, 3, 31)
	owners[0].mu.Lock()
	owners[0].forged = 4
	owners[0].mu.Unlock()
	for i := range 3 {
		pools[1].Broadcast(fmt.Appendf(nil, "forged %d", i))
	}
	var cuts []string
	took := within(t, 20*time.Second, "cut, and told", func() bool {
		owners[0].mu.Lock()
		defer owners[0].mu.Unlock()
		cuts = slices.Clone(owners[0].cuts)
		return pools[0].wire.IsCut("n1") && len(cuts) > 0
	})
	t.Logf("cut after %v", took)
	owners[0].mu.Lock()
	owners[0].forged = 0
	owners[0].mu.Unlock()
	if len(cuts) != 1 || !strings.Contains(cuts[0], "n1: n1 is cut off from gossip for 1m0s: it sent records or messages that are damaged or forged") {
		t.Errorf("told %q", cuts)
	}
	pools[1].Broadcast([]byte("from the offender"))
	pools[2].Broadcast([]byte("from n2"))
	within(t, 5*time.Second, "n2's payload", func() bool { return owners[0].count("from n2") == 1 && owners[2].count("from the offender") == 1 })
	if err := pools[1].exchange(t.Context(), "n0", pools[0].Addr()); err == nil || owners[0].count("from the offender") != 0 {
		t.Errorf("the offender is heard; its exchange: %v", err)
	}
}

// TestPacketsWithoutKey sends packets that no member sealed, and streams that show no
// certificate: nothing changes but the counter. TACIT_SOAK sends a million.
func TestPacketsWithoutKey(t *testing.T) {
	testhost.VerifyNone(t)
	r, pools, owners := mesh(t, 2, 32)
	before := rss(t)
	spent := cpu(t)
	count := 50_000
	if os.Getenv("TACIT_SOAK") != "" {
		count = 1_000_000
	}
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(pools[0].Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	random := rand.NewChaCha8([32]byte{1})
	for i := range count {
		if _, err := udp.Write(junk(random, i)); err != nil {
			t.Fatal(err)
		}
		if i%64 == 63 { // else the kernel drops most of them
			within(t, 10*time.Second, "packets are read", func() bool { return pools[0].Refused() >= uint64(i/2) })
		}
	}
	for range 40 {
		c, err := net.Dial("tcp", pools[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(bytes.Repeat([]byte{22}, 300))
		defer c.Close()
	}
	took := cpu(t) - spent
	grown := rss(t) - before
	t.Logf("%d of %d refused, %v of CPU (with the sender's), memory +%d KiB", pools[0].Refused(), count, took, grown>>10)
	if grown > 32<<20 {
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
	if alive(pools[0]) != 2 || len(owners[0].cuts) != 0 || pools[0].wire.IsCut("n1") {
		t.Error("junk in a member's name counts against the member")
	}
	late := r.start(t, r.config(t, "late", "127.0.32.9", &owner{}))
	within(t, 5*time.Second, "a new member beside the junk", func() bool { return alive(late) == 3 && alive(pools[0]) == 3 })
}

// junk is a packet in one of several forms: noise, a stranger's, and one in a member's
// name with a fresh start each, which costs most.
func junk(random *rand.ChaCha8, i int) []byte {
	out := make([]byte, 60+i%1200)
	_, _ = random.Read(out)
	switch i % 3 {
	case 1:
		copy(out, "\x01\x08stranger")
	case 2:
		copy(out, "\x01\x02n1")
	}
	return out
}

// rss is the memory of this process.
func rss(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// cpu is what this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestLongPayloads: one that is too long, or that a member sends while another of its
// own is under way, is refused; one that stops half-way ends.
func TestLongPayloads(t *testing.T) {
	testhost.VerifyNone(t)
	_, pools, owners := mesh(t, 3, 33)
	open := func(p *Pool, length uint32) net.Conn {
		t.Helper()
		c, _, err := p.wire.Dial(t.Context(), "n0", pools[0].Addr(), kindPayload)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, length)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ended := func(what string, c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ended("too long", open(pools[1], maxPayload+1))
	half := open(pools[1], 1<<20)
	within(t, 5*time.Second, "the first has its place", func() bool { return len(pools[0].large.all) == 1 })
	second := open(pools[1], 1<<20) // waits, and takes nobody else's place
	pools[2].Broadcast(bytes.Repeat([]byte{'x'}, 1<<20))
	within(t, 5*time.Second, "another member's", func() bool { return owners[0].count(strings.Repeat("x", 1<<20)) == 1 })
	_ = half.Close()
	_ = second.Close()
	pools[1].Broadcast(bytes.Repeat([]byte{'y'}, 1<<20))
	pools[1].Broadcast(bytes.Repeat([]byte{'z'}, 1<<20))
	within(t, 5*time.Second, "both parts of a long change", func() bool {
		return owners[0].count(strings.Repeat("y", 1<<20)) == 1 && owners[0].count(strings.Repeat("z", 1<<20)) == 1
	})
	within(t, 5*time.Second, "places are free", func() bool { return len(pools[0].large.all) == 0 })
}

func TestTable(t *testing.T) {
	tb := newTable(time.Now)
	name := func(i int) identity.Name { return identity.MustName(fmt.Sprintf("n%d", i)) }
	for i := range maxMembers {
		if err := tb.set(Member{Name: name(i), Alive: i != 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tb.set(Member{Name: "late", Alive: true}); err != nil {
		t.Errorf("the dead didn't make room: %v", err)
	}
	if err := tb.admits("later"); err == nil {
		t.Error("a full table admits")
	}
	if err := tb.admits(name(1)); err != nil {
		t.Errorf("a full table refuses its own member: %v", err)
	}
}

// TestSeenForgets: an ID counts for its sender alone.
func TestSeenForgets(t *testing.T) {
	s := newSeen()
	id := func(i int) frameID { return frameID{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range seenFrames {
		if !s.add("a", id(i)) || s.add("a", id(i)) || !s.add("b", id(i)) {
			t.Fatalf("frame %d", i)
		}
	}
	if len(s.ids) != seenFrames {
		t.Errorf("%d frames remembered, want %d", len(s.ids), seenFrames)
	}
}

// TestInboxShares: a sender that fills its share leaves room for others.
func TestInboxShares(t *testing.T) {
	b := newInbox()
	for range inboxShare {
		if !b.put("a", nil) {
			t.Fatal("the share is smaller")
		}
	}
	if b.put("a", nil) || !b.put("b", nil) {
		t.Error("a has more than its share, or b none")
	}
	b.took((<-b.queue).from)
	if !b.put("a", nil) {
		t.Error("a's share isn't free again")
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{frameVersion}, make([]byte, 40)...))
	s := newSpread(newTable(time.Now), "self")
	f.Fuzz(func(t *testing.T, frame []byte) {
		if p, fresh := s.receive("other", frame); fresh && !bytes.HasSuffix(frame, p) {
			t.Errorf("payload %x of frame %x", p, frame)
		}
	})
}
