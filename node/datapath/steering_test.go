// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"tacit/node/config"
)

// TestSteering: what each way of capture asks of redirect, with and without
// iptables on the host.
func TestSteering(t *testing.T) {
	for name, c := range map[string]struct {
		way          string
		noIptables   bool
		tproxy, gate bool
		missing      bool // advice to install iptables
	}{
		"auto":                      {way: config.Auto, tproxy: true, gate: true},
		"auto without iptables":     {way: config.Auto, noIptables: true, gate: true, missing: true},
		"sockets":                   {way: config.Sockets},
		"sockets without iptables":  {way: config.Sockets, noIptables: true},
		"without hooks":             {way: config.TPROXY, tproxy: true},
		"neither hooks nor tables ": {way: config.TPROXY, noIptables: true, missing: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.noIptables {
				t.Setenv("PATH", t.TempDir())
			}
			s := newSettings(t)
			s.Redirect = c.way
			s.Exclude.Ports, s.Exclude.CIDRs = []uint16{22}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			got, missing := Steering(s, addresses("10.99.0.53"))
			if got.TPROXY != c.tproxy || got.Gate != c.gate || missing != c.missing {
				t.Errorf("TPROXY %v, gate %v, iptables missing %v", got.TPROXY, got.Gate, missing)
			}
			if got.Range4 != s.Range4 || got.Range6 != s.Range6 || !slices.Equal(got.Resolvers, addresses("10.99.0.53")) ||
				!slices.Equal(got.Exclude.Ports, s.Exclude.Ports) || !slices.Equal(got.Exclude.CIDRs, s.Exclude.CIDRs) {
				t.Errorf("%+v", got)
			}
		})
	}
}
