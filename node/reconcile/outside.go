// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"tacit/node/catalog"
	"tacit/policy/kernel"
)

// outsiders adds the real names and addresses of services outside of the mesh: no
// other resolver may be asked for such a name, and a workload's call to such an
// address is one of the service.
func outsiders(in Input, s *kernel.State) map[string]error {
	claims := in.Catalog.Claims()
	found := maps.Clone(claims.Problems)
	for _, host := range slices.Sorted(maps.Keys(claims.Hosts)) {
		if d := domainOf(host, s.Domains); d != "" {
			found[host] = fmt.Errorf("it is below %s, whose names are the mesh's: it isn't %s", d, claims.Hosts[host])
			continue
		}
		s.Hosts = append(s.Hosts, host)
	}
	for _, at := range slices.SortedFunc(maps.Keys(claims.Addresses), netip.AddrPort.Compare) {
		if e := claims.Addresses[at]; in.Foreign(at.Addr()) == nil {
			s.Upstreams = append(s.Upstreams, kernel.Upstream{Bind: at, Destination: e.Service, Port: e.Port})
		}
	}
	for _, service := range in.Catalog.Services() {
		for _, instance := range in.Catalog.Instances(service) {
			maps.Copy(found, ownAddresses(in, instance))
		}
	}
	return found
}

func domainOf(host string, domains []string) string {
	for _, d := range domains {
		if host == d || strings.HasSuffix(host, "."+d) {
			return d
		}
	}
	return ""
}

// ownAddresses are those of an outside instance that can't be outside. Nobody dials
// them, and calls to them are no calls of the service.
func ownAddresses(in Input, instance catalog.Instance) map[string]error {
	if instance.Outside == nil {
		return nil
	}
	where := fmt.Sprintf("the record of %s on %s", instance.Service, instance.Node)
	if own, ok := in.View.ByID(instance.ID); ok && instance.Here {
		where = cmp.Or(own.Source, where) + ": service.outside.addresses"
	}
	found := map[string]error{}
	for _, text := range instance.Outside.Addresses {
		at, err := netip.ParseAddrPort(text)
		if err == nil {
			err = in.Foreign(at.Addr())
		}
		if err != nil {
			found[text] = fmt.Errorf("%s: %w: it is never called", where, err)
		}
	}
	return found
}
