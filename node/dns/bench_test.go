// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkForward(b *testing.B) {
	up := newUpstream(b, func(raw []byte) [][]byte { return [][]byte{replyTo(raw)} })
	addr, raw := serve(b, testServer(), up.addr), query("www.example.com.", dns.TypeA)
	for name, to := range map[string]string{"direct": up.addr.String(), "through": addr} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("udp", to)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 1<<16)
			for b.Loop() {
				_, _ = c.Write(raw)
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	s, raw := testServer(), query("db.mesh.", dns.TypeA)
	for b.Loop() {
		if r, err := s.Exchange(b.Context(), raw, "udp", netip.AddrPort{}); err != nil || len(r) < headerSize {
			b.Fatal(err)
		}
	}
}
