// SPDX-License-Identifier: Apache-2.0

package links_test

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect/links"
)

// TestInterfaces: an interface that leads to one namespace alone is found; a port of a bridge is refused.
func TestInterfaces(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	path := host.Guest(t, "guest").Namespace()
	veth := guestInterface(t, host)
	inside(t, host, func() {
		list, err := links.InterfacesTo(path)
		if err != nil || !slices.Equal(list, []uint32{uint32(veth.Index)}) {
			t.Errorf("to the namespace: %v, %v; want %d", list, err, veth.Index)
		}
		if index, err := links.Interface("box1"); err != nil || index != uint32(veth.Index) {
			t.Errorf("box1: %d, %v", index, err)
		}
	})
	host.Sh(t, "ip link add br9 type bridge; ip link set box1 master br9")
	inside(t, host, func() {
		if list, err := links.InterfacesTo(path); err != nil || len(list) > 0 {
			t.Errorf("by a bridge: %v, %v", list, err)
		}
		for _, name := range []string{"box1", "br9"} {
			if _, err := links.Interface(name); !errors.Is(err, links.ErrShared) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := links.InterfacesTo("/nowhere"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no such namespace: %v", err)
		}
		if _, err := links.Interface("none"); err == nil {
			t.Error("an interface that isn't there")
		}
	})
}

// TestIngress: connections of a guest, by both families, arrive on its interface, whichever address they are to.
func TestIngress(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	guest := host.Guest(t, "guest")
	veth := guestInterface(t, host)
	for _, addr := range []string{host.Addr.String(), host.Addr6.String()} {
		ln, err := host.Listen("tcp", net.JoinHostPort(addr, "0"))
		testhost.Must(t, err)
		defer ln.Close()
		client, err := guest.Dial("tcp", ln.Addr().String())
		testhost.Must(t, err)
		defer client.Close()
		conn, err := ln.Accept()
		testhost.Must(t, err)
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		testhost.Must(t, err)
		var index uint32
		testhost.Must(t, raw.Control(func(fd uintptr) { index, err = links.Ingress(int(fd), addr == host.Addr6.String()) }))
		if err != nil || index != uint32(veth.Index) {
			t.Errorf("to %s: %d, %v; want %d", addr, index, err, veth.Index)
		}
	}
}

// guestInterface is the host's end of the link to its one guest.
func guestInterface(t *testing.T, host *testhost.Host) *net.Interface {
	t.Helper()
	var veth *net.Interface
	testhost.Must(t, host.Do(func() (err error) { veth, err = net.InterfaceByName("box1"); return err }))
	return veth
}

// inside runs f on a thread of the host's namespace; f must not end the test.
func inside(t *testing.T, host *testhost.Host, f func()) {
	t.Helper()
	testhost.Must(t, host.Do(func() error { f(); return nil }))
}
