// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

// TestListenersOn: the listeners of one port, of both families, with all that is known of them.
func TestListenersOn(t *testing.T) {
	enter(t)
	listen(t, "tcp4", "127.0.0.1:5432")
	listen(t, "tcp6", "[::1]:5432")
	listen(t, "tcp4", "127.0.0.1:5433")
	got, err := ListenersOn(5432)
	must(t, err)
	cgroup := ownCgroup(t)
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("[::1]:5432")}
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %s", got, want)
	}
	for i, l := range got {
		if l.Addr != want[i] || l.CgroupID != cgroup || l.UID != uint32(os.Getuid()) || l.Inode == 0 || l.V6Only != l.Addr.Addr().Is6() {
			t.Errorf("got %+v, want %s in cgroup %d", l, want[i], cgroup)
		}
	}
	if none, err := ListenersOn(1); err != nil || len(none) != 0 {
		t.Errorf("on a free port: %+v, %v", none, err)
	}
	listen(t, "tcp", ":5434")
	if both, err := ListenersOn(5434); err != nil || len(both) != 1 || both[0].V6Only || both[0].Addr != netip.MustParseAddrPort("[::]:5434") {
		t.Errorf("dual stack: %+v, %v", both, err)
	}
}

// TestListeners: all ports at once, and those of this namespace alone.
func TestListeners(t *testing.T) {
	enter(t)
	listen(t, "tcp6", "[::1]:5434")
	listen(t, "tcp4", "127.0.0.1:5432")
	listen(t, "tcp4", "127.0.0.1:5433")
	got, err := Listeners()
	must(t, err)
	ports := map[uint16]bool{}
	for _, l := range got {
		ports[l.Addr.Port()] = true
	}
	if len(got) != 3 || !ports[5432] || !ports[5433] || !ports[5434] || !got[0].Addr.Addr().Is4() || got[2].Addr.Port() != 5434 {
		t.Errorf("got %+v, want ports 5432 and 5433 in either order, then 5434", got)
	}
	elsewhere(t, func() {
		if none, err := Listeners(); err != nil || len(none) != 0 {
			t.Errorf("from another namespace: %+v, %v", none, err)
		}
		if none, err := ListenersOn(5432); err != nil || len(none) != 0 {
			t.Errorf("on 5432 from another namespace: %+v, %v", none, err)
		}
	})
}

// BenchmarkListenersOn measures one call on a host with 200 other listeners.
func BenchmarkListenersOn(b *testing.B) {
	enter(b)
	for range 200 {
		listen(b, "tcp", "127.0.0.1:0")
	}
	port := listen(b, "tcp", "127.0.0.1:0").Addr().(*net.TCPAddr).AddrPort().Port()
	for b.Loop() {
		if got, err := ListenersOn(port); err != nil || len(got) != 1 {
			b.Fatal(got, err)
		}
	}
}
