// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"maps"
	"slices"
	"strings"

	"tacit/identity"
)

// MaxPinned is how many names below consul Pins returns at most: the kernel's map
// has room for 65536 names in all.
const MaxPinned = 60000

// Pins returns the names for which nobody but this server may be asked, now or
// while the daemon is away: domains with all names below them, and single names.
// services are their tags by name. Where names below consul are forwarded, only
// those of services are pinned there; if these are too many, crowded is true and
// all of consul is.
func (s *Server) Pins(services map[identity.Name][]string) (domains, hosts []string, crowded bool) {
	for _, r := range s.ranges {
		domains = append(domains, reverseDomains(r)...)
	}
	inConsul := s.consulPins(services)
	crowded = len(inConsul) > MaxPinned
	for _, d := range s.domains {
		if !d.consul || !s.forwardConsul || crowded {
			domains = append(domains, strings.TrimSuffix(d.text, "."))
		}
	}
	if !crowded {
		domains = append(domains, inConsul...)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		hosts = append(hosts, string(name))
		for _, suffix := range s.search {
			hosts = append(hosts, string(name)+"."+strings.Join(suffix, "."))
		}
	}
	return domains, hosts, crowded
}

// consulPins are the names of services below consul; none if all names below
// consul are the mesh's anyway. Names below them, with tags, are covered.
func (s *Server) consulPins(services map[identity.Name][]string) []string {
	if !s.forwardConsul {
		return nil
	}
	var out []string
	tails := []string{".consul"}
	if s.datacenter != "" {
		tails = append(tails, "."+s.datacenter+".consul", "."+s.datacenter+"."+inDC+".consul")
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		out = append(out, string(name)+"."+inVirtual+".consul")
		for _, tail := range tails {
			out = append(out, string(name)+"."+inService+tail, string(name)+"."+inConnect+tail)
			for _, tag := range append([]string{anyTag[1:]}, services[name]...) {
				rfc2782 := "_" + string(name) + "._" + lower(tag)
				out = append(out, rfc2782+"."+inService+tail, rfc2782+tail)
			}
		}
	}
	return out
}
