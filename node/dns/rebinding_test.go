// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tacit/identity"
	"tacit/internal/testhost"
)

// TestRebinding: an answer of an upstream that holds a virtual address is refused,
// wherever it holds it; all others pass unchanged.
func TestRebinding(t *testing.T) {
	testhost.VerifyNone(t)
	rr := func(text string) dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, c := range map[string]struct {
		reply   func(*dns.Msg)
		refused bool
	}{
		"an address outside":   {reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN A 240.80.0.1")) }},
		"IPv6 outside":         {reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN AAAA fd7a:ac18::1")) }},
		"a text that looks so": {reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN TXT 240.64.0.9")) }},
		"another class":        {reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 CH A 240.64.0.9")) }},
		"a virtual address":    {refused: true, reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN A 240.64.0.9")) }},
		"IPv6":                 {refused: true, reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN AAAA fd7a:ac17::9")) }},
		"IPv4 in IPv6":         {refused: true, reply: func(m *dns.Msg) { m.Answer = append(m.Answer, rr("evil.example. 5 IN AAAA ::ffff:240.64.0.9")) }},
		"behind an alias": {refused: true, reply: func(m *dns.Msg) {
			m.Answer = append(m.Answer, rr("evil.example. 5 IN CNAME a.example."), rr("a.example. 5 IN A 10.0.0.1"), rr("a.example. 5 IN A 240.64.0.9"))
		}},
		"in the additional section": {refused: true, reply: func(m *dns.Msg) {
			m.Answer, m.Extra = append(m.Answer, rr("evil.example. 5 IN SRV 1 1 80 a.example.")), append(m.Extra, rr("a.example. 5 IN A 240.64.0.9"))
		}},
		"a hint": {refused: true, reply: func(m *dns.Msg) {
			m.Answer = append(m.Answer, rr("evil.example. 5 IN HTTPS 1 . alpn=h2 ipv4hint=10.0.0.1,240.64.0.9"))
		}},
		"a hint, IPv6": {refused: true, reply: func(m *dns.Msg) {
			m.Answer = append(m.Answer, rr("evil.example. 5 IN SVCB 1 a.example. ipv6hint=fd7a:ac17::9"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)
			m := new(dns.Msg).SetReply(q)
			m.Compress = true
			c.reply(m)
			raw, err := q.Pack()
			reply, err2 := m.Pack()
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			up := newUpstream(t, func([]byte) [][]byte { return [][]byte{reply} })
			s := testServer()
			addr := serve(t, s, up.addr)
			for _, network := range []string{"udp", "tcp"} {
				got := ask(t, network, addr, raw)
				if refused := got[3]&maskRcode == rcodeServFail; refused != c.refused || !refused && !bytes.Equal(got, reply) {
					t.Errorf("%s: refused %v, want %v: %x", network, refused, c.refused, got)
				}
			}
			if n := s.Rebinding(); n != map[bool]uint64{true: 2}[c.refused] {
				t.Errorf("%d refused", n)
			}
		})
	}
}

func FuzzRebinds(f *testing.F) {
	s := testServer()
	f.Add(replyTo(query("www.example.com.", dns.TypeA)))
	f.Add(replyTo(query("www.example.com.", dns.TypeHTTPS)))
	f.Fuzz(func(_ *testing.T, reply []byte) { s.rebinds(reply) })
}

// TestSharedRoom: one sender fills its part, and another is still served.
func TestSharedRoom(t *testing.T) {
	testhost.VerifyNone(t)
	up := newUpstream(t, func([]byte) [][]byte { return nil })
	c := testConfig()
	greedy := make(chan uint16, 1)
	c.Sender = func(network string, client, server netip.AddrPort) uint64 {
		select {
		case port := <-greedy:
			greedy <- port
			if client.Port() == port {
				return 1
			}
		default:
		}
		return 2
	}
	s := New(c)
	s.timeout = time.Minute
	addr := serve(t, s, up.addr)
	flood, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	greedy <- flood.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	raw := query("www.example.com.", dns.TypeA)
	_ = flood.SetDeadline(time.Now().Add(30 * time.Second))
	refused := make(chan error, 1)
	go func() {
		_, err := flood.Read(make([]byte, 1<<16))
		refused <- err
	}()
	for waiting := true; waiting; { // the kernel may drop some
		select {
		case err := <-refused:
			if waiting = false; err != nil {
				t.Fatal(err)
			}
		default:
			_, _ = flood.Write(raw)
		}
	}
	if n := underWay(s.inflight); n != 2*maxInflight/sharers {
		t.Errorf("one sender has %d queries under way, want %d", n, 2*maxInflight/sharers)
	}
	if sender, ok := s.inflight.enter(func() uint64 { return 2 }); !ok || sender != 2 {
		t.Error("no room for another sender")
	} else {
		s.inflight.leave(2)
	}
}

// TestShadows: what a resolver says about the bare name of a service.
func TestShadows(t *testing.T) {
	testhost.VerifyNone(t)
	up := newUpstream(t, func(raw []byte) [][]byte {
		var m dns.Msg
		if m.Unpack(raw) != nil {
			return nil
		}
		r := new(dns.Msg).SetRcode(&m, dns.RcodeNameError)
		switch name := m.Question[0].Name; {
		case name == "silent.":
			return nil
		case name == "intranet.lan." && m.Question[0].Qtype == dns.TypeA, name == "intranet.":
			rr, _ := dns.NewRR(name + " 5 IN A 192.0.2.7")
			r = new(dns.Msg).SetReply(&m)
			r.Answer = []dns.RR{rr}
		}
		out, _ := r.Pack()
		return [][]byte{out}
	})
	s := testServer()
	for name, want := range map[identity.Name][]string{
		"unknown": nil,
		"silent":  nil, // no answer in time
		"intranet": {
			"intranet exists outside of the mesh (192.0.2.7), and programs on all nodes now reach the service intranet by this name instead",
			"intranet.lan exists outside of the mesh (192.0.2.7) and stays as it is: programs that use the bare name intranet reach it first, " +
				"by the search list of resolv.conf; let them call intranet.mesh, or list the suffix with --search",
		},
	} {
		if got := s.Shadows(t.Context(), name, up.addr, []string{"mesh", "lan", "corp.example"}); !slices.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", name, got, want)
		}
	}
}
