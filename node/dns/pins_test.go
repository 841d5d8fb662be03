// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
)

func TestPins(t *testing.T) {
	tags := map[identity.Name][]string{"db": {"Primary"}, "web": nil}
	c := testConfig()
	c.Ranges = []netip.Prefix{netip.MustParsePrefix("240.64.0.0/15"), netip.MustParsePrefix("fd7a:ac17::/30")}
	const reverse = "64.240.in-addr.arpa 65.240.in-addr.arpa 4.1.c.a.a.7.d.f.ip6.arpa 5.1.c.a.a.7.d.f.ip6.arpa 6.1.c.a.a.7.d.f.ip6.arpa 7.1.c.a.a.7.d.f.ip6.arpa"
	domains, hosts, crowded := New(c).Pins(tags)
	if got := strings.Join(domains, " "); crowded || got != reverse+" consul mesh" {
		t.Errorf("nothing is forwarded: crowded %v, domains %s", crowded, got)
	}
	if got := strings.Join(hosts, " "); got != "db db.corp.example web web.corp.example" {
		t.Errorf("hosts %s", got)
	}
	c.ForwardConsul = true
	domains, _, crowded = New(c).Pins(tags)
	rest, ok := strings.CutPrefix(strings.Join(domains, " "), reverse+" mesh db.virtual.consul db.service.consul db.connect.consul "+
		"_db._tcp.service.consul _db._tcp.consul _db._primary.service.consul _db._primary.consul db.service.dc1.consul ")
	if !ok || crowded || slices.Contains(domains, "consul") || !strings.HasSuffix(rest, " _web._tcp.service.dc1.dc.consul _web._tcp.dc1.dc.consul") {
		t.Errorf("forwarded: crowded %v, domains %s", crowded, domains)
	}
	for i := range 5000 {
		tags[identity.Name(fmt.Sprintf("s%d", i))] = nil
	}
	domains, hosts, crowded = New(c).Pins(tags)
	if !crowded || len(domains) != 8 || !slices.Contains(domains, "consul") || len(hosts) != 2*5002 {
		t.Errorf("too many: crowded %v, %d domains, %d hosts", crowded, len(domains), len(hosts))
	}
}

// TestPinsCoverAnswers: no name that the mesh answers for a service may be asked
// elsewhere.
func TestPinsCoverAnswers(t *testing.T) {
	c := testConfig()
	c.ForwardConsul = true
	s := New(c)
	domains, hosts, _ := s.Pins(map[identity.Name][]string{"db": {"Primary", "v1", "admin"}})
	for _, name := range []string{"db", "db.corp.example", "db.mesh", "db.service.mesh", "db.service.consul", "db.service.dc1.consul", "db.service.dc1.dc.consul",
		"db.virtual.consul", "db.connect.consul", "db.connect.dc1.consul", "v1.db.service.consul", "admin.db.service.dc1.consul",
		"_db._tcp.service.consul", "_db._tcp.consul", "_db._v1.service.consul", "_db._admin.dc1.consul", "9.0.64.240.in-addr.arpa"} {
		kept := slices.Contains(hosts, name)
		for _, d := range domains {
			_, below := cutSuffix(splitName(name), splitName(d))
			kept = kept || below
		}
		if p := s.classify(splitName(name)); !kept || p.kind != service && p.kind != reverse {
			t.Errorf("%s: kept on this host: %v, kind %d", name, kept, p.kind)
		}
	}
}

// TestForwardConsul: names below consul that the mesh doesn't have are somebody
// else's, but no name of a service that it has.
func TestForwardConsul(t *testing.T) {
	c := testConfig()
	c.ForwardConsul = true
	s := New(c)
	for name, want := range map[string]kind{
		"db.service.consul": service, "v1.db.service.consul": service, "_db._v1.service.consul": service, "host1.node.consul": host,
		"consul": apex, "service.consul": empty, "dc1.consul": empty,
		"x.db.service.consul": missing, "_db._x.service.consul": missing, "v1.down.service.consul": missing, "x.db.virtual.consul": missing,
		"redis.service.consul": outside, "v1.redis.service.consul": outside, "_redis._tcp.service.consul": outside, "db.service.dc2.consul": outside,
		"host2.node.consul": outside, "db.query.consul": outside, "db.ingress.consul": outside, "x.consul": outside,
		"x.mesh": missing, "redis.service.mesh": missing,
	} {
		if got := s.classify(splitName(name)).kind; got != want {
			t.Errorf("%s: kind %d, want %d", name, got, want)
		}
	}
}
