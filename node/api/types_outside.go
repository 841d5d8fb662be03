// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"slices"

	"tacit/identity"
)

// Outside is where an instance outside of the mesh is.
type Outside struct {
	Hosts []string `json:"hosts,omitempty"` // its real names
	// Addresses are those that were given, else those that the hosts resolve to on
	// the node that answers, where that node reaches it by itself.
	Addresses []string `json:"addresses,omitempty"` // IP:PORT
	Anywhere  bool     `json:"anywhere,omitempty"`  // each node reaches it by itself; else only the instance's
}

// foldOutside puts hosts and addresses, with a port or without, in their stored form.
func foldOutside(list []string) error {
	for i, s := range list {
		if at, err := netip.ParseAddrPort(s); err == nil && at.Port() != 0 {
			list[i] = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
		} else if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
			list[i] = addr.Unmap().String()
		} else if list[i], err = identity.ParseHost(s); err != nil {
			return Failed("", "outside: %v; nor is it an IP address or IP:PORT", err)
		}
	}
	slices.Sort(list)
	return nil
}
