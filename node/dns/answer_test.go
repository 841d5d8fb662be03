// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// text formats an answer as one line: rcode, answers, authority, additional.
func text(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			switch r := rr.(type) {
			case *dns.OPT:
				continue
			case *dns.SOA:
				out = append(out, fmt.Sprintf("%d:%s SOA", i, r.Hdr.Name))
			default:
				data := strings.TrimPrefix(rr.String(), rr.Header().String())
				out = append(out, fmt.Sprintf("%d:%s %s %s", i, rr.Header().Name, dns.TypeToString[rr.Header().Rrtype], data))
			}
			if rr.Header().Ttl != 0 {
				out = append(out, "TTL!")
			}
		}
	}
	return strings.Join(out, " | ")
}

func TestAnswer(t *testing.T) {
	const v4, v6 = "240.64.0.9", "fd7a:ac17::9"
	srv := func(owner string) string {
		return "NOERROR | 0:" + owner + " SRV 1 1 5432 db.virtual.consul. | 2:db.virtual.consul. A " + v4 + " | 2:db.virtual.consul. AAAA " + v6
	}
	tests := []struct {
		name  string
		qtype uint16
		want  string // "": not the mesh's
	}{
		{"db.", dns.TypeA, "NOERROR | 0:db. A " + v4},
		{"db.", dns.TypeAAAA, "NOERROR | 0:db. AAAA " + v6},
		{"db.", dns.TypeANY, "NOERROR | 0:db. A " + v4 + " | 0:db. AAAA " + v6},
		{"db.", dns.TypeMX, "NOERROR | 1:db. SOA"},
		{"Db.", dns.TypeHTTPS, "NOERROR | 1:Db. SOA"},
		{"DB.Mesh.", dns.TypeA, "NOERROR | 0:DB.Mesh. A " + v4},
		{"db.mesh.", dns.TypeTXT, "NOERROR | 1:mesh. SOA"},
		{"db.mesh.", dns.TypeSRV, "NOERROR | 1:mesh. SOA"},
		{"four.mesh.", dns.TypeAAAA, "NOERROR | 1:mesh. SOA"},
		{"db.service.consul.", dns.TypeA, "NOERROR | 0:db.service.consul. A " + v4},
		{"db.virtual.consul.", dns.TypeAAAA, "NOERROR | 0:db.virtual.consul. AAAA " + v6},
		{"db.connect.consul.", dns.TypeA, "NOERROR | 0:db.connect.consul. A " + v4},
		{"db.service.consul.", dns.TypeSRV, srv("db.service.consul.")},
		{"_DB._tcp.service.consul.", dns.TypeSRV, srv("_DB._tcp.service.consul.")},
		{"client.service.consul.", dns.TypeSRV, "NOERROR | 1:consul. SOA"},
		{"db.virtual.consul.", dns.TypeSRV, "NOERROR | 1:consul. SOA"},
		{"db.corp.example.", dns.TypeA, "NOERROR | 0:db.corp.example. A " + v4},
		{"db.corp.example.", dns.TypeSOA, "NOERROR | 1:db.corp.example. SOA"},
		{"x.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"x.db.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"x.service.consul.", dns.TypeA, "NXDOMAIN | 1:consul. SOA"},
		{"x.virtual.consul.", dns.TypeAAAA, "NXDOMAIN | 1:consul. SOA"},
		{"db.consul.", dns.TypeA, "NXDOMAIN | 1:consul. SOA"},
		{"_db._udp.service.consul.", dns.TypeSRV, "NXDOMAIN | 1:consul. SOA"},
		{`db\.x.mesh.`, dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"mesh.", dns.TypeSOA, "NOERROR | 0:mesh. SOA"},
		{"mesh.", dns.TypeA, "NOERROR | 1:mesh. SOA"},
		{"service.consul.", dns.TypeA, "NOERROR | 1:consul. SOA"},
		{"service.consul.", dns.TypeSOA, "NOERROR | 1:consul. SOA"},
		{"_tcp.service.consul.", dns.TypeA, "NOERROR | 1:consul. SOA"},
		{"x.", dns.TypeA, ""},
		{"x.corp.example.", dns.TypeA, ""},
		{"x.db.corp.example.", dns.TypeA, ""},
		{"corp.example.", dns.TypeA, ""},
		{"db.example.com.", dns.TypeA, ""},
		{"notmesh.", dns.TypeA, ""},
		{"mesh.example.", dns.TypeA, ""},
		{".", dns.TypeNS, ""},
	}
	s := testServer()
	for _, tt := range tests {
		t.Run(tt.name+dns.TypeToString[tt.qtype], func(t *testing.T) {
			q := new(dns.Msg).SetQuestion(tt.name, tt.qtype)
			m, ours := s.Answer(q)
			if ours != (tt.want != "") {
				t.Fatalf("ours: %v", ours)
			}
			if !ours {
				return
			}
			if got := text(m); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !m.Authoritative || !m.Response || m.Id != q.Id || !m.RecursionDesired {
				t.Errorf("header %+v", m.MsgHdr)
			}
			raw, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Exchange(t.Context(), raw, "udp", netip.AddrPort{}); err != nil {
				t.Errorf("on the wire: %v", err)
			}
		})
	}
}

func TestUnusualQueries(t *testing.T) {
	tests := []struct {
		name   string
		change func(*dns.Msg)
		rcode  int
	}{
		{"version", func(m *dns.Msg) { m.SetEdns0(512, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		{"class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"edns", func(m *dns.Msg) { m.SetEdns0(4096, true) }, dns.RcodeSuccess},
	}
	s := testServer()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion("db.mesh.", dns.TypeA)
			tt.change(q)
			raw, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			reply, err := s.Exchange(t.Context(), raw, "udp", netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			var m dns.Msg
			if err := m.Unpack(reply); err != nil {
				t.Fatal(err)
			}
			if opt := m.IsEdns0(); opt != nil {
				m.Rcode = int(opt.ExtendedRcode())&^0xf | m.Rcode&0xf
				if opt.UDPSize() != ednsSize || opt.Version() != 0 || opt.Do() != q.IsEdns0().Do() {
					t.Errorf("OPT %v", opt)
				}
			}
			if m.Rcode != tt.rcode || m.Id != q.Id {
				t.Errorf("rcode %d, want %d", m.Rcode, tt.rcode)
			}
		})
	}
}

// TestTruncation asks for an SRV answer that doesn't fit 512 bytes.
func TestTruncation(t *testing.T) {
	long := strings.Repeat(strings.Repeat("d", 60)+".", 3)
	s := testServer()
	s.domains = append(s.domains, domain{labels: splitName(long), consul: true})
	q := new(dns.Msg).SetQuestion("_db._tcp.service."+long, dns.TypeSRV)
	for size, truncated := range map[uint16]bool{0: true, 1232: false} {
		if size != 0 {
			q.SetEdns0(size, false)
		}
		raw, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, network := range []string{"udp", "tcp"} {
			var m dns.Msg
			reply, err := s.Exchange(t.Context(), raw, network, netip.AddrPort{})
			if err != nil || m.Unpack(reply) != nil {
				t.Fatalf("%x, %v", reply, err)
			}
			if limit := max(512, int(size)); network == "udp" && len(reply) > limit {
				t.Errorf("%d bytes for a client that takes %d", len(reply), limit)
			}
			if m.Truncated && (network == "tcp" || !truncated) {
				t.Errorf("%s, %d: truncated", network, size)
			}
		}
		q.Extra = nil
	}
}

func FuzzExchange(f *testing.F) {
	f.Add(query("db.mesh.", dns.TypeA))
	f.Add(query("_db._tcp.service.consul.", dns.TypeSRV))
	f.Add([]byte{})
	s := testServer()
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, reply, err := s.local(raw, "udp")
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Logf("%v", err)
			}
			return
		}
		if reply == nil {
			reply = failure(raw, q, rcodeServFail)
		}
		if len(reply) > max(ednsSize, len(raw)) || !bytes.Equal(reply[:2], raw[:2]) || reply[2]&flagResponse == 0 {
			t.Errorf("reply %x to %x", reply, raw)
		}
	})
}

func FuzzReply(f *testing.F) {
	raw := query("www.example.com.", dns.TypeA)
	q, err := parseQuestion(raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(replyTo(raw))
	f.Add(failure(raw, q, rcodeServFail))
	f.Fuzz(func(t *testing.T, reply []byte) {
		if answers(reply, raw, q) && !bytes.Equal(reply[:2], raw[:2]) {
			t.Errorf("accepted %x", reply)
		}
	})
}
