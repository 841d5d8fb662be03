// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tacit/identity"
)

// zone is a Zone in a map.
type zone map[identity.Name]entry

type entry struct {
	v4, v6    netip.Addr
	instances []Instance
}

func (z zone) Real(string) identity.Name { return "" }
func (z zone) Enrolled(uint64) bool      { return true }
func (z zone) Lookup(n identity.Name) (v4, v6 netip.Addr, ok bool) {
	e, ok := z[n]
	return e.v4, e.v6, ok
}

func (z zone) Instances(n identity.Name) []Instance { return z[n].instances }

func (z zone) Node(n identity.Name) []netip.Addr {
	if n != "host1" {
		return nil
	}
	return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
}

func (z zone) Owner(addr netip.Addr) identity.Name {
	switch addr {
	case netip.MustParseAddr("240.64.0.7"):
		return "tacit/probe"
	case netip.MustParseAddr("240.64.0.6"):
		return "ingress/public"
	}
	for name, e := range z {
		if e.v4 == addr || e.v6 == addr {
			return name
		}
	}
	return ""
}

// on is a healthy instance.
func on(port uint16, tags ...string) Instance { return Instance{Port: port, Tags: tags, Healthy: true} }

func testConfig() Config {
	ip := netip.MustParseAddr
	return Config{
		Zone: zone{
			"db":    {ip("240.64.0.9"), ip("fd7a:ac17::9"), []Instance{on(5432, "Primary", "v1"), on(9000, "admin", "v1"), {Port: 5432, Tags: []string{"v1"}}}},
			"four":  {ip("240.64.0.4"), netip.Addr{}, []Instance{on(80)}},
			"down":  {ip("240.64.0.5"), ip("fd7a:ac17::5"), []Instance{{Port: 80, Tags: []string{"v1"}}}},
			"multi": {ip("240.64.0.6"), netip.Addr{}, []Instance{{Port: 80, Weight: 3, Healthy: true}, on(80, "blue"), on(443, "blue", "a.b")}},
			// the subset canary of multi
			"canary.multi": {ip("240.64.0.10"), netip.Addr{}, []Instance{on(80, "blue"), {Port: 443}}},
		},
		Self: "host1", Domains: []string{"mesh", "Consul."}, Search: []string{"", ".", "Corp.Example.", "bad..suffix"}, Datacenter: "DC1",
		Ranges: []netip.Prefix{netip.MustParsePrefix("240.64.0.0/12"), netip.MustParsePrefix("fd7a:ac17::/32")},
	}
}

func testServer() *Server {
	s := New(testConfig())
	s.timeout = 100 * time.Millisecond
	return s
}

// upstream is a resolver in this process; answer receives each query and returns the
// packets to send back.
type upstream struct {
	addr netip.AddrPort
	mu   sync.Mutex
	got  []string
}

func (u *upstream) queries() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.got...)
}

func (u *upstream) note(network string, raw []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, network+" "+string(raw))
}

func newUpstream(t testing.TB, answer func(raw []byte) [][]byte) *upstream {
	t.Helper()
	udp, tcp := sockets(t)
	u := &upstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			u.note("udp", buf[:n])
			for _, r := range answer(bytes.Clone(buf[:n])) {
				_, _ = udp.WriteTo(r, from)
			}
		}
	})
	wait.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			raw, err := readFrame(c)
			if err == nil {
				u.note("tcp", raw)
				for _, r := range answer(raw) {
					_ = writeFrame(c, r)
				}
			}
			_, _ = c.Read(make([]byte, 1)) // until the client closes
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = udp.Close(); _ = tcp.Close(); wait.Wait() })
	return u
}

// sockets returns a UDP and a TCP socket on one port.
func sockets(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		_ = udp.Close()
	}
	t.Fatal("no port free in both UDP and TCP")
	return nil, nil
}

// serve runs s in place of up and returns its address.
func serve(t testing.TB, s *Server, up netip.AddrPort) string {
	t.Helper()
	udp, tcp := sockets(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, udp, tcp, up) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return udp.LocalAddr().String()
}

// query is a packet that no DNS library would write: mixed case, an unknown option,
// bytes after the end.
func query(name string, qtype uint16) []byte {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(4096, true)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2, 3}}}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return append(raw, "trailing"...)
}

// replyTo is an answer to raw with a body that isn't DNS.
func replyTo(raw []byte) []byte {
	r := bytes.Clone(raw)
	r[2] |= flagResponse
	return append(r, bytes.Repeat([]byte{0xc0, 0xff}, 1000)...)
}

func ask(t testing.TB, network, addr string, raw []byte) []byte {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if network == "tcp" {
		if err := writeFrame(c, raw); err != nil {
			t.Fatal(err)
		}
		r, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}
