// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"net"
	"net/netip"
	"testing"
)

// TestEstablishedOn: the accepted ends of a port's connections; neither the listener, nor the clients' ends, nor another
// port's.
func TestEstablishedOn(t *testing.T) {
	enter(t)
	ln := listen(t, "tcp", "[::]:5432")
	want := map[Connection]bool{}
	for _, addr := range []string{"127.0.0.1:5432", "[::1]:5432"} {
		client, accepted := connect(t, ln, addr)
		c := Connection{Local: netip.MustParseAddrPort(addr), Remote: client.LocalAddr().(*net.TCPAddr).AddrPort(), CgroupID: ownCgroup(t)}
		c.Remote = netip.AddrPortFrom(c.Remote.Addr().Unmap(), c.Remote.Port())
		c.Inode, c.Cookie = socketOf(t, accepted)
		want[c] = true
	}
	connect(t, listen(t, "tcp", "127.0.0.1:5433"), "127.0.0.1:5433")
	got, err := EstablishedOn(5432)
	must(t, err)
	for _, c := range got {
		if !want[c] {
			t.Errorf("got %+v, want one of %+v", c, want)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d connections, want %d", len(got), len(want))
	}
}
