// SPDX-License-Identifier: Apache-2.0

// Package datapath puts the kernel's side of the mesh on this host and keeps
// it there: programs, listeners, routes, TPROXY and the captured resolvers. It
// must not know policy, records or services: it is told what the kernel shall
// hold, and who owns what it accepts.
package datapath

import (
	"net/netip"
	"os/exec"

	"tacit/node/config"
	"tacit/redirect"
	"tacit/redirect/links"
)

// AdviceIptables is what to say when Steering returns noIptables.
const AdviceIptables = "iptables is not installed: programs in other network namespaces are not captured (apt-get install iptables)"

// Steering returns the part of redirect.Config that is known before any
// listener is open. noIptables: TPROXY is wanted, and the host has no iptables.
func Steering(s *config.Settled, resolvers []netip.Addr) (c redirect.Config, noIptables bool) {
	c = redirect.Config{Range4: s.Range4, Range6: s.Range6, IPv6: links.HasIPv6(), TPROXY: s.Redirect != config.Sockets, Resolvers: resolvers,
		Exclude: redirect.Exclude{Ports: s.Exclude.Ports, CIDRs: s.Exclude.CIDRs}}
	c.Gate = c.TPROXY && s.Redirect != config.TPROXY
	if _, err := exec.LookPath("iptables"); err != nil && c.TPROXY {
		c.TPROXY, noIptables = false, true
	}
	return c, noIptables
}
