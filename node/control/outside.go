// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/definition/external"
)

// outsideOf is where an instance outside of the mesh is; nil for a program.
func (s services) outsideOf(in catalog.Instance) *api.Outside {
	if in.Outside == nil {
		return nil
	}
	out := &api.Outside{Hosts: in.Outside.Hosts, Addresses: in.Outside.Addresses, Anywhere: in.Outside.Anywhere}
	if len(out.Addresses) == 0 && in.Direct() {
		for _, at := range s.Names.Reached(in) {
			out.Addresses = append(out.Addresses, at.String())
		}
	}
	return out
}

// mayBeOutside refuses addresses that aren't outside of the mesh.
func (s services) mayBeOutside(o *external.Place) error {
	if o == nil {
		return nil
	}
	for _, text := range o.Addresses {
		at, err := netip.ParseAddrPort(text)
		if err == nil {
			err = s.Names.Foreign(at.Addr())
		}
		if err != nil {
			return api.Refused("define the service on the node that runs it", "--outside %s: %s", text, err)
		}
	}
	return nil
}

// claimNotes say which names a registration takes.
func (s services) claimNotes(d definition.Definition) []string {
	var out []string
	claims := s.Loop.Catalog().Claims()
	for _, what := range d.Outside.Claims() {
		if err := claims.Problems[what]; err != nil {
			out = append(out, fmt.Sprintf("%s: %s", what, err))
		} else if claims.Hosts[what] == d.Name {
			out = append(out, fmt.Sprintf("workloads on every node of the mesh reach %s by the name %s from now on", d.Name, what))
		}
	}
	return out
}

// leaves says where calls of a service leave the mesh, as a sentence; "" where they
// don't.
func (k *control) leaves(service identity.Name) string {
	var from, to []string
	for _, in := range k.Loop.Catalog().Instances(service) {
		if in.Outside == nil {
			continue
		}
		node := string(in.Node)
		if in.Outside.Anywhere {
			node = "the caller's own node"
		}
		from, to = append(from, node), append(to, in.Outside.Hosts...)
		if len(in.Outside.Hosts) == 0 {
			to = append(to, in.Outside.Addresses...)
		}
	}
	if len(from) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is outside of the mesh: calls leave it at %s, for %s.", service, list(from), list(to))
}

func list(words []string) string {
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}
