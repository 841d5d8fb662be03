// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"net"
	"net/netip"
	"testing"

	"tacit/redirect/sockdiag"
)

func TestBoundSockets(t *testing.T) {
	enter(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:7000")
	must(t, err)
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "[::]:7001")
	must(t, err)
	defer udp.Close()
	b, err := sockdiag.BoundSockets()
	must(t, err)
	if len(b.TCP) != 1 || b.TCP[0].Addr.String() != "127.0.0.1:7000" || b.TCP[0].Inode == 0 || b.TCP[0].CgroupID == 0 {
		t.Errorf("tcp: %+v", b.TCP)
	}
	if len(b.UDP) != 1 || b.UDP[0].Addr.Port() != 7001 || b.UDP[0].Inode == 0 || b.UDP[0].CgroupID == 0 {
		t.Errorf("udp: %+v", b.UDP)
	}
	for _, tt := range []struct {
		l    sockdiag.Listener
		to   string
		want bool
	}{
		{b.TCP[0], "127.0.0.1:7000", true},
		{b.TCP[0], "10.0.0.1:7000", false},
		{b.TCP[0], "127.0.0.1:7001", false},
		{b.UDP[0], "10.0.0.1:7001", true}, // Go's [::] takes IPv4, too
		{b.UDP[0], "[fd00::1]:7001", true},
		{sockdiag.Listener{Addr: netip.MustParseAddrPort("[::]:7001"), V6Only: true}, "10.0.0.1:7001", false},
		{sockdiag.Listener{Addr: netip.MustParseAddrPort("0.0.0.0:7001")}, "[::1]:7001", false},
	} {
		if got := tt.l.Reaches(netip.MustParseAddrPort(tt.to)); got != tt.want {
			t.Errorf("%s reaches %s: %v", tt.to, tt.l.Addr, got)
		}
	}
}
