// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"net"
	"net/netip"
	"testing"
)

// TestBoundSockets: a listener and a bound UDP socket, and neither of the connected ones.
func TestBoundSockets(t *testing.T) {
	enter(t)
	connect(t, listen(t, "tcp", "127.0.0.1:7000"), "127.0.0.1:7000")
	udp, err := net.ListenPacket("udp", "[::]:7001")
	must(t, err)
	defer udp.Close()
	connected, err := net.Dial("udp", "127.0.0.1:7001")
	must(t, err)
	defer connected.Close()
	b, err := BoundSockets()
	must(t, err)
	if len(b.TCP) != 1 || b.TCP[0].Addr.String() != "127.0.0.1:7000" || b.TCP[0].Inode == 0 || b.TCP[0].CgroupID != ownCgroup(t) {
		t.Errorf("tcp: %+v", b.TCP)
	}
	if len(b.UDP) != 1 || b.UDP[0].Addr.Port() != 7001 || b.UDP[0].Inode == 0 || b.UDP[0].CgroupID != ownCgroup(t) {
		t.Errorf("udp: %+v", b.UDP)
	}
}

func TestReaches(t *testing.T) {
	for _, tt := range []struct {
		listener string
		v6only   bool
		to       string
		want     bool
	}{
		{"127.0.0.1:7000", false, "127.0.0.1:7000", true},
		{"127.0.0.1:7000", false, "[::ffff:127.0.0.1]:7000", true},
		{"127.0.0.1:7000", false, "10.0.0.1:7000", false},
		{"127.0.0.1:7000", false, "127.0.0.1:7001", false},
		{"0.0.0.0:7001", false, "10.0.0.1:7001", true},
		{"0.0.0.0:7001", false, "[::1]:7001", false},
		{"[::]:7001", false, "10.0.0.1:7001", true},
		{"[::]:7001", false, "[fd00::1]:7001", true},
		{"[::]:7001", true, "10.0.0.1:7001", false},
		{"[::]:7001", true, "[fd00::1]:7001", true},
	} {
		l := Listener{Addr: netip.MustParseAddrPort(tt.listener), V6Only: tt.v6only}
		if got := l.Reaches(netip.MustParseAddrPort(tt.to)); got != tt.want {
			t.Errorf("%s, v6only %v, reached at %s: %v, want %v", tt.listener, tt.v6only, tt.to, got, tt.want)
		}
	}
}
