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
	more := func(target string) string { return " | 2:" + target + " A " + v4 + " | 2:" + target + " AAAA " + v6 }
	srv := func(owner string) string {
		return "NOERROR | 0:" + owner + " SRV 1 1 5432 db.virtual.consul. | 0:" + owner + " SRV 1 1 9000 db.virtual.consul." + more("db.virtual.consul.")
	}
	admin := func(owner string) string {
		return "NOERROR | 0:" + owner + " SRV 1 1 9000 db.virtual.consul." + more("db.virtual.consul.")
	}
	const nodata, nxdomain = "NOERROR | 1:consul. SOA", "NXDOMAIN | 1:consul. SOA"
	const db6 = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.1.c.a.a.7.d.f.ip6.arpa."
	tests := []struct {
		name  string
		qtype uint16
		want  string // "": not the mesh's
	}{
		// Bare names, and those below a search suffix of the config.
		{"db.", dns.TypeA, "NOERROR | 0:db. A " + v4},
		{"db.", dns.TypeAAAA, "NOERROR | 0:db. AAAA " + v6},
		{"db.", dns.TypeANY, "NOERROR | 0:db. A " + v4 + " | 0:db. AAAA " + v6},
		{"db.", dns.TypeMX, "NOERROR | 1:db. SOA"},
		{"db.", dns.TypeSRV, "NOERROR | 1:db. SOA"},
		{"Db.", dns.TypeHTTPS, "NOERROR | 1:Db. SOA"},
		{"db.corp.example.", dns.TypeA, "NOERROR | 0:db.corp.example. A " + v4},
		{"db.corp.example.", dns.TypeSOA, "NOERROR | 1:db.corp.example. SOA"},
		{"x.", dns.TypeA, ""},
		{"x.corp.example.", dns.TypeA, ""},
		{"x.db.corp.example.", dns.TypeA, ""},
		{"corp.example.", dns.TypeA, ""},
		{"db.other.example.", dns.TypeA, ""},
		{".", dns.TypeNS, ""},
		// The mesh's own domain: NAME, and the same names as below consul.
		{"DB.Mesh.", dns.TypeA, "NOERROR | 0:DB.Mesh. A " + v4},
		{"db.mesh.", dns.TypeTXT, "NOERROR | 1:mesh. SOA"},
		{"four.mesh.", dns.TypeAAAA, "NOERROR | 1:mesh. SOA"},
		{"four.mesh.", dns.TypeSRV, "NOERROR | 0:four.mesh. SRV 1 1 80 four.virtual.mesh. | 2:four.virtual.mesh. A 240.64.0.4"},
		{"db.service.mesh.", dns.TypeA, "NOERROR | 0:db.service.mesh. A " + v4},
		{"db.service.dc1.mesh.", dns.TypeA, "NOERROR | 0:db.service.dc1.mesh. A " + v4},
		{"host1.node.mesh.", dns.TypeA, "NOERROR | 0:host1.node.mesh. A 10.0.0.1"},
		{"x.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"x.db.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{`db\.x.mesh.`, dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"notmesh.", dns.TypeA, ""},
		{"mesh.example.", dns.TypeA, ""},
		// Consul's names of services.
		{"db.service.consul.", dns.TypeA, "NOERROR | 0:db.service.consul. A " + v4},
		{"db.service.dc1.consul.", dns.TypeA, "NOERROR | 0:db.service.dc1.consul. A " + v4},
		{"db.service.DC1.dc.consul.", dns.TypeA, "NOERROR | 0:db.service.DC1.dc.consul. A " + v4},
		{"db.virtual.consul.", dns.TypeAAAA, "NOERROR | 0:db.virtual.consul. AAAA " + v6},
		{"db.connect.consul.", dns.TypeA, "NOERROR | 0:db.connect.consul. A " + v4},
		{"db.connect.dc1.consul.", dns.TypeA, "NOERROR | 0:db.connect.dc1.consul. A " + v4},
		{"db.service.consul.", dns.TypeMX, nodata},
		{"down.service.consul.", dns.TypeA, "NOERROR | 0:down.service.consul. A 240.64.0.5"},
		{"x.service.consul.", dns.TypeA, nxdomain},
		{"x.virtual.consul.", dns.TypeAAAA, nxdomain},
		{"db.service.dc2.consul.", dns.TypeA, nxdomain},
		{"db.dc1.consul.", dns.TypeA, nxdomain},
		{"db.consul.", dns.TypeA, nxdomain},
		// SRV: the ports where an instance is healthy.
		{"db.service.consul.", dns.TypeSRV, srv("db.service.consul.")},
		{"_DB._tcp.service.consul.", dns.TypeSRV, srv("_DB._tcp.service.consul.")},
		{"_db._tcp.consul.", dns.TypeSRV, srv("_db._tcp.consul.")},
		{"_db._tcp.service.dc1.consul.", dns.TypeSRV, srv("_db._tcp.service.dc1.consul.")},
		{"_db._tcp.service.consul.", dns.TypeA, "NOERROR | 0:_db._tcp.service.consul. A " + v4},
		{"multi.service.consul.", dns.TypeSRV, "NOERROR | 0:multi.service.consul. SRV 1 4 80 multi.virtual.consul. | " +
			"0:multi.service.consul. SRV 1 1 443 multi.virtual.consul. | 2:multi.virtual.consul. A 240.64.0.6"},
		{"down.service.consul.", dns.TypeSRV, nodata},
		{"db.virtual.consul.", dns.TypeSRV, nodata},
		{"_db._udp.service.consul.", dns.TypeSRV, nxdomain},
		// Tags: addresses and ports only where every instance has the tag.
		{"v1.db.service.consul.", dns.TypeA, "NOERROR | 0:v1.db.service.consul. A " + v4},
		{"v1.db.service.consul.", dns.TypeSRV, srv("v1.db.service.consul.")},
		{"ADMIN.db.service.dc1.consul.", dns.TypeA, "NOERROR | 0:ADMIN.db.service.dc1.consul. A " + v4},
		{"admin.db.service.consul.", dns.TypeSRV, admin("admin.db.service.consul.")},
		{"_db._admin.service.consul.", dns.TypeSRV, admin("_db._admin.service.consul.")},
		{"_db._admin.consul.", dns.TypeSRV, admin("_db._admin.consul.")},
		{"a.b.multi.service.consul.", dns.TypeA, "NOERROR | 0:a.b.multi.service.consul. A 240.64.0.6"},
		{"primary.db.service.consul.", dns.TypeA, nodata},
		{"primary.db.service.consul.", dns.TypeSRV, nodata},
		{"x.db.service.consul.", dns.TypeA, nxdomain},
		{"v1.down.service.consul.", dns.TypeA, nxdomain},
		// Subsets have addresses of their own.
		{"Canary.multi.service.consul.", dns.TypeA, "NOERROR | 0:Canary.multi.service.consul. A 240.64.0.10"},
		{"canary.multi.virtual.consul.", dns.TypeA, "NOERROR | 0:canary.multi.virtual.consul. A 240.64.0.10"},
		{"canary.multi.virtual.consul.", dns.TypeSRV, nodata},
		{"canary.multi.connect.dc1.consul.", dns.TypeA, "NOERROR | 0:canary.multi.connect.dc1.consul. A 240.64.0.10"},
		{"_multi._canary.service.consul.", dns.TypeSRV, "NOERROR | 0:_multi._canary.service.consul. SRV 1 1 80 canary.multi.virtual.consul. | 2:canary.multi.virtual.consul. A 240.64.0.10"},
		{"canary.multi.mesh.", dns.TypeA, "NOERROR | 0:canary.multi.mesh. A 240.64.0.10"},
		{"canary.multi.mesh.", dns.TypeAAAA, "NOERROR | 1:mesh. SOA"},
		{"x.canary.multi.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"canary.multi.consul.", dns.TypeA, nxdomain},
		{"canary.multi.", dns.TypeA, ""},
		// Nodes and spelt addresses.
		{"host1.node.consul.", dns.TypeA, "NOERROR | 0:host1.node.consul. A 10.0.0.1"},
		{"host1.node.dc1.consul.", dns.TypeAAAA, "NOERROR | 0:host1.node.dc1.consul. AAAA fd00::1"},
		{"Host1.node.consul.", dns.TypeTXT, nodata},
		{"host2.node.consul.", dns.TypeA, nxdomain},
		{"c000020a.addr.dc1.consul.", dns.TypeA, "NOERROR | 0:c000020a.addr.dc1.consul. A 192.0.2.10"},
		{"c000020a.addr.consul.", dns.TypeAAAA, nodata},
		{"xyz.addr.consul.", dns.TypeA, nxdomain},
		// The domains themselves, and what lies between.
		{"mesh.", dns.TypeSOA, "NOERROR | 0:mesh. SOA"},
		{"mesh.", dns.TypeA, "NOERROR | 1:mesh. SOA"},
		{"consul.", dns.TypeNS, "NOERROR | 0:consul. NS host1.node.consul. | 2:host1.node.consul. A 10.0.0.1 | 2:host1.node.consul. AAAA fd00::1"},
		{"service.consul.", dns.TypeA, nodata},
		{"service.consul.", dns.TypeSOA, nodata},
		{"_tcp.service.consul.", dns.TypeA, nodata},
		{"node.dc1.consul.", dns.TypeNS, nodata},
		{"dc1.consul.", dns.TypeA, nodata},
		{"dc.consul.", dns.TypeA, nodata},
		// Reverse names.
		{"9.0.64.240.in-addr.arpa.", dns.TypePTR, "NOERROR | 0:9.0.64.240.in-addr.arpa. PTR db.mesh."},
		{"9.0.64.240.IN-ADDR.arpa.", dns.TypeA, "NOERROR | 1:9.0.64.240.IN-ADDR.arpa. SOA"},
		{db6, dns.TypePTR, "NOERROR | 0:" + db6 + " PTR db.mesh."},
		{"8.0.64.240.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 1:8.0.64.240.in-addr.arpa. SOA"},
		{"6.0.64.240.in-addr.arpa.", dns.TypePTR, "NOERROR | 0:6.0.64.240.in-addr.arpa. PTR public.ingress.mesh."},
		{"public.ingress.mesh.", dns.TypeA, "NXDOMAIN | 1:mesh. SOA"},
		{"7.0.64.240.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 1:7.0.64.240.in-addr.arpa. SOA"},
		{"x.9.0.64.240.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 1:x.9.0.64.240.in-addr.arpa. SOA"},
		{"x.0.64.240.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 1:x.0.64.240.in-addr.arpa. SOA"},
		{"79.240.in-addr.arpa.", dns.TypeSOA, "NOERROR | 1:79.240.in-addr.arpa. SOA"},
		{"80.240.in-addr.arpa.", dns.TypePTR, ""},
		{"240.in-addr.arpa.", dns.TypePTR, ""},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR, ""},
		{"arpa.", dns.TypeNS, ""},
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
	s.domains = append(s.domains, domain{labels: splitName(long), text: joined(splitName(long))})
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
		q, reply, err := s.local(raw, "udp", func() uint64 { return 0 })
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
