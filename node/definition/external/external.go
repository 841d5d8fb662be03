// SPDX-License-Identifier: Apache-2.0

// Package external says where a service outside of the mesh is: by which names and
// addresses, each checked and in its stored form. It must not resolve or dial them.
package external

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tacit/identity"
)

// Place is where a service outside of the mesh is.
type Place struct {
	Hosts     []string `json:"hosts,omitempty"`     // real names; programs may go on using them
	Addresses []string `json:"addresses,omitempty"` // IP:PORT; none: those of the hosts
	Anywhere  bool     `json:"anywhere,omitempty"`  // reach = "any": each node connects by itself
}

// Claims are the real names and addresses that the service stands for.
func (p *Place) Claims() []string {
	if p == nil {
		return nil
	}
	return slices.Concat(p.Hosts, p.Addresses)
}

// Address returns IP:PORT, or the IP alone where the port is the service's,
// in its stored form. Addresses that can't be another host's are refused.
func Address(s string) (string, error) {
	to, err := netip.ParseAddrPort(s)
	if err != nil {
		addr, alone := netip.ParseAddr(strings.Trim(s, "[]"))
		if alone != nil {
			return "", fmt.Errorf("%.60q: must be an IP address, or one with a port; names belong into hosts", s)
		}
		return addr.Unmap().String(), Impossible(addr)
	}
	if to.Port() == 0 {
		return "", fmt.Errorf("%.60q: the port must be 1 to 65535", s)
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String(), Impossible(to.Addr())
}

// Parse reads a list of hosts and addresses.
func Parse(list []string, anywhere bool) (*Place, error) {
	out := &Place{Anywhere: anywhere}
	for _, s := range list {
		if host, err := identity.ParseHost(s); err == nil {
			out.Hosts = append(out.Hosts, host)
			continue
		}
		addr, err := Address(s)
		if err != nil {
			return nil, err
		}
		out.Addresses = append(out.Addresses, addr)
	}
	return out, nil
}

// Impossible says why no host outside of the mesh can have an address; nil: one can.
func Impossible(a netip.Addr) error {
	a = a.Unmap()
	what := ""
	switch {
	case a.IsLoopback():
		what = "a loopback address"
	case a.IsUnspecified():
		what = "no address"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "not one host's address"
	case a.IsLinkLocalUnicast():
		what = "a link-local address, where the host's metadata service may be"
	case a.Zone() != "":
		what = "an address of one interface"
	default:
		return nil
	}
	return fmt.Errorf("%s is %s", a, what)
}

// Serves says whether a check may name a host: one of the outside service's own.
func (p *Place) Serves(host string) bool {
	name, _ := identity.ParseHost(host)
	return p != nil && (slices.Contains(p.Hosts, name) || slices.ContainsFunc(p.Addresses, func(at string) bool {
		to, err := netip.ParseAddrPort(at)
		return err == nil && to.Addr().String() == host
	}))
}
