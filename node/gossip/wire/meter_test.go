// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
)

// TestMeter: a member that stays above what it may send, or sends forged records, is
// cut off, and heard again later; one with a burst isn't, and neither is anybody else.
func TestMeter(t *testing.T) {
	packets, bytes, _, forged := limits()
	for name, c := range map[string]struct {
		send func(*meter)
		cut  error
	}{
		"as usual": {func(m *meter) {
			for range 600 {
				m.packet("a", 1000)
				<-time.After(100 * time.Millisecond)
			}
		}, nil},
		"a burst": {func(m *meter) {
			for range int(packets.burst) * 2 {
				m.packet("a", 100)
			}
			<-time.After(time.Minute)
			m.packet("a", 100)
		}, nil},
		"packets without end": {func(m *meter) {
			for range 4 * int(packets.burst+packets.rate*overLimit.Seconds()) {
				m.packet("a", 100)
				<-time.After(time.Second / time.Duration(packets.rate) / 4)
			}
		}, errFlood},
		"bytes without end": {func(m *meter) {
			for range 80 {
				m.take("a", int(bytes.burst)/10)
				<-time.After(100 * time.Millisecond)
			}
		}, errFlood},
		"forged, now and then": {func(m *meter) {
			for range 20 {
				m.forgery("a", 1)
				<-time.After(time.Minute)
			}
		}, nil},
		"forged, one by one": {func(m *meter) {
			for range int(forged.burst) + 1 {
				m.forgery("a", 1)
			}
		}, errForgery},
		"forged, at once": {func(m *meter) { m.forgery("a", 64) }, errForgery},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told []error
			m := newMeter(func(member identity.Name, why error) {
				if member != "a" {
					t.Errorf("%s: told of %s", name, member)
				}
				told = append(told, why)
			})
			defer m.close()
			c.send(m)
			if cut := m.isCut("a"); cut != (c.cut != nil) || cut != (len(told) == 1) || cut && !errors.Is(told[0], c.cut) {
				t.Errorf("%s: cut %v, told %v", name, cut, told)
			}
			if m.packet("a", 1) != (c.cut == nil) || m.take("a", 1) != (c.cut == nil) || m.stream("a") != (c.cut == nil) || !m.packet("b", 1) {
				t.Errorf("%s: the wrong members are heard", name)
			}
			<-time.After(cutTime)
			synctest.Wait()
			if !m.packet("a", 1) || c.cut != nil && (len(told) != 2 || told[1] != nil) {
				t.Errorf("%s: not heard again; told %v", name, told)
			}
		})
	}
}

// fakeConn is a stream from an address.
type fakeConn struct {
	net.Conn
	from   *net.TCPAddr
	closed *int
}

func (f fakeConn) RemoteAddr() net.Addr { return f.from }
func (f fakeConn) Close() error         { *f.closed++; return nil }

func TestStreamLimits(t *testing.T) {
	closed := 0
	fake := func(last byte) fakeConn {
		return fakeConn{from: &net.TCPAddr{IP: net.IPv4(10, 0, 0, last)}, closed: &closed}
	}
	list := newConns(func(a netip.Addr) bool { return a.As4()[3] < 4 })
	var open []*conn
	accept := func(last byte) int {
		n := 0
		for range maxStreamsPerPeer + 1 {
			if c, ok := list.inbound(fake(last)); ok {
				open = append(open, c)
				n++
			}
		}
		return n
	}
	strangers := 0
	for last := byte(4); last < 14; last++ {
		strangers += accept(last)
	}
	if strangers != maxStrangers {
		t.Errorf("strangers hold %d streams, want %d", strangers, maxStrangers)
	}
	if n := accept(1); n != maxStreamsPerPeer {
		t.Errorf("a member got %d streams beside strangers, want %d", n, maxStreamsPerPeer)
	}
	mine := open[maxStrangers:]
	for i, c := range mine {
		if list.prove(c, "a") != (i < maxStreamsPerMember) {
			t.Errorf("stream %d of a member", i)
		}
	}
	out, err := list.outbound(fake(1))
	if err != nil || !list.prove(out, "b") {
		t.Fatal(err)
	}
	if list.closeOf("a"); closed != len(mine) || list.perMember["a"] != 0 || list.accepted != maxStrangers {
		t.Errorf("%d of %d streams of a are closed: %+v", closed, len(mine), list)
	}
	list.closeAll()
	for _, c := range open {
		_ = c.Close()
	}
	if list.accepted != 0 || list.strangers != 0 || len(list.perPeer) != 0 || len(list.perMember) != 0 || len(list.open) != 0 {
		t.Errorf("streams left: %+v", list)
	}
	if _, err := list.outbound(fake(1)); !errors.Is(err, errClosed) {
		t.Errorf("a stream after the end: %v", err)
	}
}
