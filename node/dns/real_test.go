// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tacit/identity"
)

// realZone is a zone with the real names of services outside of the mesh, in which
// cgroup 7 is no workload's.
type realZone struct {
	zone
	names map[string]identity.Name
}

func (z realZone) Real(name string) identity.Name { return z.names[name] }
func (z realZone) Enrolled(cgroup uint64) bool    { return cgroup != 7 }

// TestRealNames: exactly these names are the mesh's, for those who may be workloads;
// other programs get what the resolver says, by a socket with the service's tag.
func TestRealNames(t *testing.T) {
	up := newUpstream(t, func(raw []byte) [][]byte { return [][]byte{reply(t, raw, "198.51.100.1")} })
	var tagged []identity.Name
	conf := testConfig()
	conf.Zone = realZone{conf.Zone.(zone), map[string]identity.Name{"a.example": "db", "b.mesh": "db", "db.corp.example": "multi", "gone.example": "gone"}}
	conf.Tag = func(_ int, service identity.Name) error {
		tagged = append(tagged, service)
		return nil
	}
	s := New(conf)
	for _, c := range []struct {
		name   string
		cgroup uint64
		want   string // address, or rcode
		tag    identity.Name
	}{
		{"a.example.", 0, "240.64.0.9", ""},
		{"A.Example.", 3, "240.64.0.9", ""},
		{"a.example.", 7, "198.51.100.1", "db"},
		{"x.a.example.", 3, "198.51.100.1", ""},
		{"example.", 3, "198.51.100.1", ""},
		{"b.mesh.", 3, "NXDOMAIN", ""},            // below a domain of the mesh
		{"db.corp.example.", 3, "240.64.0.9", ""}, // below a search suffix: the service db's
		{"gone.example.", 3, "NXDOMAIN", ""},      // without an instance
		{"gone.example.", 7, "198.51.100.1", "gone"},
	} {
		tagged = nil
		for _, network := range []string{"udp", "tcp"} {
			raw := query(c.name, dns.TypeA)
			q, answer, err := s.local(raw, network, func() uint64 { return c.cgroup })
			if answer == nil && err == nil {
				answer, err = s.forward(context.Background(), raw, q, route{network, up.addr})
			}
			var m dns.Msg
			if err != nil || m.Unpack(answer) != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got := dns.RcodeToString[m.Rcode]
			if len(m.Answer) > 0 {
				got = m.Answer[0].(*dns.A).A.String()
			}
			if got != c.want {
				t.Errorf("%s by %s from cgroup %d: %s, want %s", c.name, network, c.cgroup, got, c.want)
			}
		}
		if len(tagged) != 0 && c.tag == "" || c.tag != "" && (len(tagged) != 2 || tagged[0] != c.tag) {
			t.Errorf("%s: tags %v, want %q", c.name, tagged, c.tag)
		}
	}
	if name, why := s.Service("a.example"); name != "db" || !strings.Contains(why, "is the real name of the service db") {
		t.Error(name, why)
	}
}

// reply has one A record.
func reply(t *testing.T, raw []byte, addr string) []byte {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(raw); err != nil {
		t.Error(err)
		return nil
	}
	rr, err := dns.NewRR(m.Question[0].Name + " 60 IN A " + addr)
	r := new(dns.Msg).SetReply(&m)
	r.Answer = []dns.RR{rr}
	out, err2 := r.Pack()
	if err != nil || err2 != nil {
		t.Error(err, err2)
	}
	return out
}
