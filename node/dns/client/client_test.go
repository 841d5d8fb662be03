// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve answers queries on one port of 127.0.0.1 by UDP and TCP with the records of a
// zone; a name without records doesn't exist.
func serve(t *testing.T, answer func(w dns.ResponseWriter, r *dns.Msg)) netip.AddrPort {
	t.Helper()
	udp, tcp := onePort(t)
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: dns.HandlerFunc(answer)}, {Listener: tcp, Handler: dns.HandlerFunc(answer)}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// onePort listens on a port that is free for UDP and TCP.
func onePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		_ = udp.Close() // the port is another test's
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func zoneOf(t *testing.T, lines ...string) func(dns.ResponseWriter, *dns.Msg) {
	var all []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, dns.RcodeNameError)
		for _, rr := range all {
			if strings.HasPrefix(rr.Header().Name, "other") || rr.Header().Rrtype == r.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer, m.Rcode = append(m.Answer, rr), dns.RcodeSuccess
			}
		}
		_ = w.WriteMsg(m)
	}
}

// TestAsk: addresses of the name and of its aliases in any order, with the least TTL.
func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(dns.ResponseWriter, *dns.Msg)
		want   string
	}{
		"both families":          {zoneOf(t, "a.example. 60 IN A 203.0.113.5", "a.example. 30 IN AAAA 2001:db8::5"), "[203.0.113.5 2001:db8::5] 30s <nil>"},
		"several":                {zoneOf(t, "A.Example. 60 IN A 203.0.113.5", "a.example. 50 IN A 203.0.113.6"), "[203.0.113.5 203.0.113.6] 50s <nil>"},
		"aliases":                {zoneOf(t, "c.example. 60 IN A 203.0.113.5", "b.example. 20 IN CNAME c.example.", "a.example. 40 IN CNAME b.example."), "[203.0.113.5] 20s <nil>"},
		"an alias to itself":     {zoneOf(t, "a.example. 60 IN CNAME a.example."), "[] 0s has no address"},
		"records of others":      {zoneOf(t, "other.example. 60 IN A 203.0.113.9", "a.example. 60 IN A 203.0.113.5"), "[203.0.113.5] 1m0s <nil>"},
		"records of others only": {zoneOf(t, "other.example. 60 IN A 203.0.113.9"), "[] 0s has no address"},
		"no such name":           {zoneOf(t), "[] 0s has no address"},
		"a failure": {func(w dns.ResponseWriter, r *dns.Msg) {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeServerFailure))
		}, "[] 0s resolver 127.0.0.1: SERVFAIL"},
		"another question": {func(w dns.ResponseWriter, r *dns.Msg) {
			r.Question[0].Name = "b.example."
			zoneOf(t, "b.example. 60 IN A 203.0.113.5")(w, r)
		}, "[] 0s resolver 127.0.0.1: the answer is to another question"},
		"cut by UDP": {func(w dns.ResponseWriter, r *dns.Msg) {
			if w.LocalAddr().Network() == "udp" {
				m := new(dns.Msg).SetReply(r)
				m.Truncated = true
				_ = w.WriteMsg(m)
				return
			}
			zoneOf(t, "a.example. 60 IN A 203.0.113.5")(w, r)
		}, "[203.0.113.5] 1m0s <nil>"},
	} {
		marked := make(chan int, 16)
		asks := Client{Mark: func(fd int) error { marked <- fd; return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		a, err := asks.ask(ctx, "a.example.", serve(t, c.answer))
		cancel()
		if got := fmt.Sprint(a.Addrs, a.TTL, " ", err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if len(marked) < 2 {
			t.Errorf("%s: %d sockets were marked", name, len(marked))
		}
	}
}

// TestMarkFails: without its mark a query isn't sent.
func TestMarkFails(t *testing.T) {
	asked := make(chan string, 4)
	at := serve(t, func(_ dns.ResponseWriter, r *dns.Msg) { asked <- r.Question[0].Name })
	_, err := Client{Mark: func(int) error { return errors.New("the map is full") }}.ask(t.Context(), "a.example.", at)
	if err == nil || !strings.Contains(err.Error(), "the map is full") || len(asked) > 0 {
		t.Error(err)
	}
}

// TestNoResolver says so.
func TestNoResolver(t *testing.T) {
	if _, err := (Client{}).Look(t.Context(), "a.example", nil); err == nil || err.Error() != "resolv.conf names no resolver" {
		t.Error(err)
	}
}
