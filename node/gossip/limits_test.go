// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
)

// fakeConn is an endless stream from an address.
type fakeConn struct {
	net.Conn
	from *net.TCPAddr
}

func (f fakeConn) RemoteAddr() net.Addr          { return f.from }
func (f fakeConn) Read(p []byte) (int, error)    { return len(p), nil }
func (f fakeConn) Close() error                  { return nil }
func fake(last byte) fakeConn                    { return fakeConn{from: &net.TCPAddr{IP: net.IPv4(10, 0, 0, last)}} }
func member(a netip.Addr) bool                   { return a.As4()[3] == 1 }
func readAll(c net.Conn, n int64) (int64, error) { return io.CopyN(io.Discard, c, n) }

func TestStreamLimits(t *testing.T) {
	b := newConns(member)
	var open []net.Conn
	accept := func(last byte) int {
		n := 0
		for range maxStreamsPerPeer + 1 {
			if c, ok := b.inbound(fake(last)); ok {
				open = append(open, c)
				n++
			}
		}
		return n
	}
	strangers := 0
	for last := byte(2); last < 10; last++ {
		strangers += accept(last)
	}
	if strangers != maxStrangers {
		t.Errorf("strangers hold %d streams, want %d", strangers, maxStrangers)
	}
	if n := accept(1); n != maxStreamsPerPeer {
		t.Errorf("a member got %d streams beside strangers, want %d", n, maxStreamsPerPeer)
	}
	if _, err := readAll(open[0], strangerBytes+1); !errors.Is(err, errStranger) {
		t.Errorf("one stranger read on: %v", err)
	}
	if _, err := readAll(open[len(open)-1], 2*strangersBytes); err != nil {
		t.Errorf("a member was limited: %v", err)
	}
	for _, c := range open {
		_ = c.Close()
		_ = c.Close()
	}
	if b.accepted != 0 || b.strangers != 0 || b.bytes != 0 || len(b.perPeer) != 0 || len(b.open) != 0 {
		t.Errorf("streams left: %+v", b)
	}
}

// TestJunk sends packets and streams without the key to a pool.
func TestJunk(t *testing.T) {
	testhost.VerifyNone(t)
	o := &owner{}
	var log bytes.Buffer
	cfg := testConfig("a", "127.0.17.1", o)
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := start(t, cfg)
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	header := append([]byte{labelType, byte(len(cfg.Label))}, cfg.Label...)
	for i := range 2000 {
		junk := append(bytes.Clone(header[:i%(len(header)+1)]), bytes.Repeat([]byte{byte(i)}, i%300)...)
		if _, err := udp.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 * maxStreamsPerPeer {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(append(bytes.Clone(header), 10, 0xff, 0xff, 0xff, 0xff))
	}
	q := start(t, testConfig("b", "127.0.17.2", &owner{}))
	if err := q.Join(t.Context(), []string{p.Addr().String()}); err != nil {
		t.Fatalf("join beside the junk: %v", err)
	}
	within(t, 2*time.Second, "members", func() bool { return alive(p) == 2 })
	_ = p.Close()
	if lines := strings.Count(log.String(), "\n"); lines > 10*warnsPerSecond {
		t.Errorf("junk wrote %d lines of log", lines)
	}
}

func TestTable(t *testing.T) {
	tb := newTable()
	name := func(i int) identity.Name { return identity.MustName(fmt.Sprintf("n%d", i)) }
	for i := range maxMembers {
		if err := tb.set(Member{Name: name(i), Alive: i != 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tb.set(Member{Name: "late", Alive: true}); err != nil {
		t.Errorf("the dead didn't make room: %v", err)
	}
	if err := tb.admits("later"); !errors.Is(err, errFull) {
		t.Errorf("a full table admits: %v", err)
	}
	if err := tb.admits(name(1)); err != nil {
		t.Errorf("a full table refuses its own member: %v", err)
	}
}

func TestSeenForgets(t *testing.T) {
	s := newSeen()
	id := func(i int) frameID { return frameID{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range 2*seenFrames + 1 {
		if !s.add(id(i)) || s.add(id(i)) {
			t.Fatalf("frame %d", i)
		}
	}
	if len(s.ids) != seenFrames {
		t.Errorf("%d frames remembered, want %d", len(s.ids), seenFrames)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{frameVersion}, make([]byte, 40)...))
	s := newSpread(newTable(), "example.test")
	f.Fuzz(func(t *testing.T, frame []byte) {
		if p, fresh := s.receive(frame); fresh && !bytes.HasSuffix(frame, p) {
			t.Errorf("payload %x of frame %x", p, frame)
		}
	})
}
