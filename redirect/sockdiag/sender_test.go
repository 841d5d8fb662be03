// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestSenders: the cgroup of UDP clients with and without a peer, and of TCP
// clients; a socket that is closed is found no more.
func TestSenders(t *testing.T) {
	enter(t)
	var s Senders
	for _, host := range []string{"127.0.0.1", "::1"} {
		server, err := net.ListenPacket("udp", net.JoinHostPort(host, "5353"))
		must(t, err)
		defer server.Close()
		at := server.LocalAddr().(*net.UDPAddr).AddrPort()
		connected, err := net.Dial("udp", at.String())
		must(t, err)
		defer connected.Close()
		loose, err := net.ListenPacket("udp", ":0")
		must(t, err)
		_, err = connected.Write([]byte("?"))
		must(t, err)
		_, err = loose.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(at))
		must(t, err)
		for range 2 {
			_, from, err := server.ReadFrom(make([]byte, 1))
			must(t, err)
			if got, err := s.CgroupOf(true, from.(*net.UDPAddr).AddrPort(), at); err != nil || got != ownCgroup(t) {
				t.Errorf("%s from %s: %d, %v; want %d", host, from, got, err, ownCgroup(t))
			}
		}
		gone := loose.LocalAddr().(*net.UDPAddr).AddrPort()
		must(t, loose.Close())
		if got, err := s.CgroupOf(true, netip.AddrPortFrom(at.Addr(), gone.Port()), at); !errors.Is(err, ErrNoSocket) {
			t.Errorf("%s, closed: %d, %v", host, got, err)
		}
		ln := listen(t, "tcp", net.JoinHostPort(host, "5353"))
		client, accepted := connect(t, ln, at.String())
		if got, err := s.CgroupOf(false, client.LocalAddr().(*net.TCPAddr).AddrPort(), accepted.LocalAddr().(*net.TCPAddr).AddrPort()); err != nil || got != ownCgroup(t) {
			t.Errorf("%s, TCP: %d, %v", host, got, err)
		}
	}
}

// BenchmarkSenders is what one question costs.
func BenchmarkSenders(b *testing.B) {
	enter(b)
	var s Senders
	server, err := net.ListenPacket("udp", "127.0.0.1:5353")
	must(b, err)
	defer server.Close()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	client, err := net.Dial("udp", at.String())
	must(b, err)
	defer client.Close()
	from := client.LocalAddr().(*net.UDPAddr).AddrPort()
	for b.Loop() {
		if _, err := s.CgroupOf(true, from, at); err != nil {
			b.Fatal(err)
		}
	}
}
