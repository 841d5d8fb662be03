// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"tacit/redirect/sockdiag"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestListenersOn(t *testing.T) {
	enter(t)
	const port = 5432
	open := func(network, addr string) net.Listener {
		t.Helper()
		ln, err := net.Listen(network, addr)
		must(t, err)
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	open("tcp4", "127.0.0.1:5432")
	open("tcp6", "[::1]:5432")
	open("tcp4", "127.0.0.1:5433")
	got, err := sockdiag.ListenersOn(port)
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
	if none, err := sockdiag.ListenersOn(1); err != nil || len(none) != 0 {
		t.Errorf("on a free port: %+v, %v", none, err)
	}
	open("tcp", ":5434")
	if both, err := sockdiag.ListenersOn(5434); err != nil || len(both) != 1 || both[0].V6Only || both[0].Addr != netip.MustParseAddrPort("[::]:5434") {
		t.Errorf("dual stack: %+v, %v", both, err)
	}
	elsewhere := newElsewhere(t)
	must(t, elsewhere.do(func() error {
		if none, err := sockdiag.ListenersOn(port); err != nil || len(none) != 0 {
			return fmt.Errorf("from another namespace: %+v, %w", none, err)
		}
		return nil
	}))
}

// ownCgroup is the inode of this process's cgroup v2, which is its number in the kernel.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	info, err := os.Stat(cgroupPath(t))
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func cgroupPath(t *testing.T) string {
	t.Helper()
	return cgroupTop(t) + shell(t, "printf %s \"$(sed -n s/^0:://p /proc/self/cgroup)\"")
}

func cgroupTop(t *testing.T) string {
	t.Helper()
	return shell(t, "printf %s \"$(grep -m1 ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2)\"")
}

// BenchmarkListenersOn measures one question on a host with some listeners.
func BenchmarkListenersOn(b *testing.B) {
	for i := range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(i, err)
		}
		defer ln.Close()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	for b.Loop() {
		if got, err := sockdiag.ListenersOn(port); err != nil || len(got) != 1 {
			b.Fatal(got, err)
		}
	}
}

// TestTransparentUDPLeavesPort53 lets a DNS server that binds every address start beside us, and an answer with its port
// go out all the same.
func TestTransparentUDPLeavesPort53(t *testing.T) {
	enter(t)
	udp, err := ListenTransparentUDP(context.Background(), false)
	must(t, err)
	defer udp.Close()
	client, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	defer client.Close()
	server, err := net.ListenPacket("udp4", "0.0.0.0:53")
	must(t, err)
	defer server.Close()
	to := client.LocalAddr().(*net.UDPAddr).AddrPort()
	must(t, udp.WriteFrom([]byte("answer"), netip.MustParseAddrPort("192.0.2.53:53"), to))
	must(t, client.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 16)
	n, from, err := client.ReadFrom(b)
	if err != nil || string(b[:n]) != "answer" || from.String() != "192.0.2.53:53" {
		t.Errorf("read %q from %v, %v", b[:n], from, err)
	}
	if err := udp.WriteFrom(nil, netip.MustParseAddrPort("[::1]:53"), to); err == nil {
		t.Error("mixed families were sent")
	}
	must(t, udp.Close())
	if _, _, _, err := udp.ReadFrom(b); !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Errorf("read after close = %v", err)
	}
}

func TestSortedFamilies(t *testing.T) {
	f := everything().families()
	if len(f) != 2 || f[0].v6 || !f[1].v6 || !slices.Equal(f[0].resolvers[:1], []netip.Addr{netip.MustParseAddr("10.99.0.53")}) {
		t.Errorf("families = %+v", f)
	}
}
