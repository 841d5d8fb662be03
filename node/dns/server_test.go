// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"

	"github.com/miekg/dns"
)

func TestForwardByteForByte(t *testing.T) {
	testhost.VerifyNone(t)
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
	testhost.VerifyNone(t)
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
	testhost.VerifyNone(t)
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
	testhost.VerifyNone(t)
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
	if err != nil || buf[3]&maskRcode != rcodeServFail || underWay(s.inflight) != 2*maxInflight/sharers {
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

func underWay(g *gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

func TestMalformedIsDropped(t *testing.T) {
	testhost.VerifyNone(t)
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
	testhost.VerifyNone(t)
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
	testhost.VerifyNone(t)
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
