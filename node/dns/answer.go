// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// ednsSize is the largest UDP message that we send and announce: it fits every path
// (DNS flag day 2020).
const ednsSize = 1232

// Answer answers a query for a name of the mesh; false means that the name isn't
// the mesh's. Answers are authoritative and have TTL 0.
func (s *Server) Answer(m *dns.Msg) (*dns.Msg, bool) {
	if len(m.Question) != 1 || m.Response {
		return nil, false
	}
	q := m.Question[0]
	p := s.classify(labelsOf(q.Name))
	if p.kind == outside {
		return nil, false
	}
	r := new(dns.Msg).SetReply(m)
	r.Authoritative, r.RecursionAvailable = true, true
	switch {
	case !s.edns(m, r):
	case m.Opcode != dns.OpcodeQuery:
		r.Rcode = dns.RcodeNotImplemented
	case q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY:
		r.Rcode = dns.RcodeRefused
	default:
		s.fill(r, q, p)
	}
	return r, true
}

// edns adds the EDNS record that the query requires (RFC 6891); false means that
// the version is unsupported, and the answer complete.
func (s *Server) edns(m, r *dns.Msg) bool {
	opt := m.IsEdns0()
	if opt == nil {
		return true
	}
	r.SetEdns0(ednsSize, opt.Do())
	if opt.Version() != 0 {
		r.Rcode = dns.RcodeBadVers
		return false
	}
	return true
}

// fill adds the records, or the SOA of a negative answer.
func (s *Server) fill(r *dns.Msg, q dns.Question, p meaning) {
	switch p.kind {
	case missing:
		r.Rcode = dns.RcodeNameError
	case service:
		s.serviceRecords(r, q, p)
	case host:
		r.Answer = ofType(q.Qtype, addresses(q.Name, p.addrs...))
	case apex:
		s.apexRecords(r, q, p)
	case reverse:
		if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
			r.Answer = []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: s.pointer(p.name)}}
		}
	}
	if len(r.Answer) == 0 {
		r.Ns = append(r.Ns, soa(q, p))
	}
}

func (s *Server) serviceRecords(r *dns.Msg, q dns.Question, p meaning) {
	v4, v6, ok := s.zone.Lookup(p.name)
	if !ok { // removed since it was classified
		r.Rcode = dns.RcodeNameError
		return
	}
	if q.Qtype == dns.TypeSRV && p.srv {
		s.srv(r, q, p, v4, v6)
		return
	}
	if p.tag == "" || len(s.ports(p.name, p.tag)) > 0 {
		r.Answer = ofType(q.Qtype, addresses(q.Name, v4, v6))
	}
}

// srv adds one record for each port that can be called.
func (s *Server) srv(r *dns.Msg, q dns.Question, p meaning, v4, v6 netip.Addr) {
	target := string(p.name) + "." + inVirtual + "." + p.domain
	ports := s.ports(p.name, p.tag)
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		r.Answer = append(r.Answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Priority: 1,
			Weight: uint16(min(ports[port], math.MaxUint16)), Port: port, Target: target})
	}
	if len(r.Answer) > 0 {
		r.Extra = append(addresses(target, v4, v6), r.Extra...)
	}
}

// apexRecords adds the SOA, or this node as the name server.
func (s *Server) apexRecords(r *dns.Msg, q dns.Question, p meaning) {
	switch q.Qtype {
	case dns.TypeSOA:
		r.Answer = []dns.RR{soa(q, p)}
	case dns.TypeNS:
		addrs := s.zone.Node(s.self)
		if len(addrs) == 0 {
			return
		}
		name := string(s.self) + "." + inNode + "." + p.domain
		r.Answer = []dns.RR{&dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: name}}
		r.Extra = append(addresses(name, addrs...), r.Extra...)
	}
}

// ofType keeps the records that a query asks for.
func ofType(qtype uint16, all []dns.RR) []dns.RR {
	return slices.DeleteFunc(all, func(rr dns.RR) bool { return qtype != dns.TypeANY && rr.Header().Rrtype != qtype })
}

// addresses returns A and AAAA records of the valid addresses.
func addresses(owner string, addrs ...netip.Addr) []dns.RR {
	var out []dns.RR
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4():
			out = append(out, &dns.A{Hdr: header(owner, dns.TypeA), A: a.AsSlice()})
		case a.Is6():
			out = append(out, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return out
}

// soa returns the zone's SOA. Its owner must lie in the zone, or intermediate
// resolvers drop the answer. The negative TTL is 0: a service may exist a moment
// later.
func soa(q dns.Question, p meaning) dns.RR {
	owner, ns, mbox := p.domain, "ns."+p.domain, "hostmaster."+p.domain
	if owner == "" { // the queried name may be too long for another label
		owner, ns, mbox = q.Name, q.Name, "."
	}
	return &dns.SOA{
		Hdr: header(owner, dns.TypeSOA), Ns: ns, Mbox: mbox,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 0,
	}
}

func header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: 0}
}

// labelsOf splits a name in presentation format. A label keeps its escapes, and
// then is no service's name.
func labelsOf(name string) []string {
	labels := dns.SplitDomainName(name)
	for i, l := range labels {
		labels[i] = lower(l)
	}
	return labels
}

// answer answers raw, a query for a name of the mesh, in wire format.
func (s *Server) answer(raw []byte, udp bool) ([]byte, error) {
	var m dns.Msg
	if err := m.Unpack(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r, ok := s.Answer(&m)
	if !ok { // the service was removed meanwhile
		r = new(dns.Msg).SetRcode(&m, dns.RcodeServerFailure)
	}
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := m.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), ednsSize)
		}
	}
	r.Truncate(size)
	return r.Pack()
}
