// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tacit/identity"
)

// zone is a Zone in a map.
type zone map[identity.Name]struct {
	v4, v6 netip.Addr
	port   uint16
}

func (z zone) Lookup(n identity.Name) (v4, v6 netip.Addr, port uint16, ok bool) {
	e, ok := z[n]
	return e.v4, e.v6, e.port, ok
}

func testServer() *Server {
	z := zone{
		"db":     {netip.MustParseAddr("240.64.0.9"), netip.MustParseAddr("fd7a:ac17::9"), 5432},
		"four":   {netip.MustParseAddr("240.64.0.4"), netip.Addr{}, 80},
		"client": {netip.MustParseAddr("240.64.0.5"), netip.MustParseAddr("fd7a:ac17::5"), 0},
	}
	search := func() []string { return []string{"", ".", "Corp.Example.", "bad..suffix"} }
	s := New(Config{Zone: z, Domains: []string{"mesh", "Consul."}, Search: search})
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

func noLeak(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		limit := time.Now().Add(5 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			if time.Now().After(limit) {
				buf := make([]byte, 1<<20)
				t.Errorf("goroutines: %d before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
				return
			}
			<-tick.C
		}
	})
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

func TestForwardByteForByte(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func(raw []byte) [][]byte {
		wrongID, wrongName := replyTo(raw), replyTo(raw)
		wrongID[0]++
		wrongName[headerSize+1] ^= 1
		return [][]byte{{1, 2, 3}, wrongID, wrongName, raw, replyTo(raw)}
	})
	addr := serve(t, testServer(), up.addr)
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"WwW.eXample.COM.", "db.example.com.", "x.db.corp.example.", "unknown.", "."} {
			raw := query(name, 65280)
			if got := ask(t, network, addr, raw); !bytes.Equal(got, replyTo(raw)) {
				t.Errorf("%s %s: answer changed: %x", network, name, got)
			}
			seen := up.queries()
			if last := seen[len(seen)-1]; last != network+" "+string(raw) {
				t.Errorf("%s %s: query changed: %x", network, name, last)
			}
		}
	}
}

func TestMeshNamesStayHere(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func(raw []byte) [][]byte { return [][]byte{replyTo(raw)} })
	addr := serve(t, testServer(), up.addr)
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"DB.", "dB.MesH.", "x.mesh.", "a.b.c.consul.", "mesh.", "db.CORP.example."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeHTTPS} {
				var m dns.Msg
				if err := m.Unpack(ask(t, network, addr, query(name, qtype))); err != nil {
					t.Fatal(err)
				}
				if !m.Authoritative || m.Question[0].Name != name {
					t.Errorf("%s %s: %v", network, name, m)
				}
			}
		}
	}
	if got := up.queries(); len(got) != 0 {
		t.Errorf("%d mesh names went upstream", len(got))
	}
}

func TestSilentUpstream(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func([]byte) [][]byte { return nil })
	s := testServer()
	for network, tries := range map[string]int{"udp": udpTries, "tcp": 1} {
		raw, before := query("www.example.com.", dns.TypeA), len(up.queries())
		r, err := s.Exchange(t.Context(), raw, network, up.addr)
		if err != nil || r[3]&maskRcode != rcodeServFail || r[0] != raw[0] || r[1] != raw[1] || r[5] != 1 {
			t.Errorf("%s: %x, %v", network, r, err)
		}
		if n := len(up.queries()) - before; n != tries {
			t.Errorf("%s: asked %d times, want %d", network, n, tries)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Exchange(ctx, query("a.", 1), "udp", up.addr); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBoundedForwarding(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func([]byte) [][]byte { return nil })
	s := testServer()
	s.timeout = 10 * time.Second
	addr := serve(t, s, up.addr)
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	raw := query("www.example.com.", dns.TypeA)
	var wait sync.WaitGroup
	full := make(chan struct{})
	wait.Go(func() { // the kernel may drop some packets: send until one is refused
		for {
			select {
			case <-full:
				return
			default:
				_, _ = c.Write(raw)
			}
		}
	})
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	close(full)
	wait.Wait()
	if err != nil || buf[3]&maskRcode != rcodeServFail || len(s.inflight) != maxInflight {
		t.Fatalf("over the limit: %x, %v", buf[:n], err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	mesh := query("db.", dns.TypeA) // mesh names are still answered
	for n = 0; !bytes.Equal(buf[:min(n, 2)], mesh[:2]); {
		if _, err := c.Write(mesh); err != nil { // the kernel may drop some in the flood
			t.Fatal(err)
		}
		if n, err = c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	var m dns.Msg
	if err := m.Unpack(buf[:n]); err != nil || len(m.Answer) != 1 {
		t.Errorf("mesh name while forwarding is full: %v, %v", m, err)
	}
}

func TestMalformedIsDropped(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func(raw []byte) [][]byte { return [][]byte{replyTo(raw)} })
	addr := serve(t, testServer(), up.addr)
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	good := query("db.mesh.", dns.TypeA)
	cut := bytes.TrimSuffix(bytes.Clone(good), []byte("trailing"))
	response := bytes.Clone(good)
	response[2] |= flagResponse
	pointer := append(bytes.Clone(good[:headerSize]), 0xc0, 12, 0, 1, 0, 1)
	long := append(bytes.Clone(good[:headerSize]), bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'a'}, 63)...), 4)...)
	for _, bad := range [][]byte{{}, {0}, good[:11], good[:15], cut[:len(cut)-3], response, pointer, append(long, 0, 0, 1, 0, 1)} {
		if _, err := c.Write(bad); err != nil {
			t.Fatal(err)
		}
	}
	good[0] ^= 0xff
	_, _ = c.Write(good)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 1<<16)
	if n, err := c.Read(buf); err != nil || buf[0] != good[0] {
		t.Errorf("the first answer must be to the good query: %x, %v", buf[:n], err)
	}
	if got := up.queries(); len(got) != 0 {
		t.Errorf("malformed packets went upstream: %x", got)
	}
}

func TestPipelinedTCP(t *testing.T) {
	noLeak(t)
	up := newUpstream(t, func([]byte) [][]byte { return nil })
	addr := serve(t, testServer(), up.addr)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	slow, quick := query("slow.example.", dns.TypeA), query("db.", dns.TypeA)
	if writeFrame(c, slow) != nil || writeFrame(c, quick) != nil || c.(*net.TCPConn).CloseWrite() != nil {
		t.Fatal("can't write")
	}
	for _, want := range [][]byte{quick, slow} {
		if r, err := readFrame(c); err != nil || !bytes.Equal(r[:2], want[:2]) {
			t.Errorf("answers out of order or lost: %x, %v", r, err)
		}
	}
}

func TestServeEnds(t *testing.T) {
	noLeak(t)
	udp, tcp := sockets(t)
	self := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := testServer().Serve(t.Context(), udp, tcp, self); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("a loop was accepted: %v", err)
	}
	udp, tcp = sockets(t)
	done := make(chan error, 1)
	go func() {
		done <- testServer().Serve(context.Background(), udp, tcp, netip.MustParseAddrPort("127.0.0.1:9"))
	}()
	_ = tcp.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a lost listener must end Serve: %v", err)
	}
}
