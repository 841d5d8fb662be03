// SPDX-License-Identifier: Apache-2.0

package selfprobe

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"tacit/node/probe"
)

// round is one round of tasks. Names, tokens and ports differ each time, so
// that no answer but a true one fits.
type round struct {
	tasks []probe.Task
	label string // of the name that is asked for
	token string // what the daemon answers on a captured connection
}

// addresses are what a round goes to, IPv4 first; an invalid one is left out.
type addresses struct {
	self      [2]netip.Addr // the probe's own virtual addresses
	nobody    [2]netip.Addr // virtual addresses of no service
	resolvers [2]netip.Addr
}

// firstOf returns the first resolver of each family.
func firstOf(resolvers []netip.Addr) (out [2]netip.Addr) {
	for _, a := range resolvers {
		switch a = a.Unmap(); {
		case a.Is4() && !out[0].IsValid():
			out[0] = a
		case a.Is6() && !out[1].IsValid() && a.Zone() == "":
			out[1] = a
		}
	}
	return out
}

func newRound(c Config, a addresses) round {
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails
	r := round{token: hex.EncodeToString(random[:8]), label: "probe-" + hex.EncodeToString(random[8:16])}
	refused := max(1, binary.BigEndian.Uint16(random[16:]))
	r.add(c, a, "4", 0, refused, false)
	if a.nobody[1].IsValid() {
		r.add(c, a, "6", 1, refused, false)
		r.add(c, a, " mapped", 0, refused, true) // IPv4 by an IPv6 socket
	}
	return r
}

// add appends the tasks of one address family.
func (r *round) add(c Config, a addresses, suffix string, family int, refused uint16, mapped bool) {
	task := func(name string, kind probe.Kind, to netip.AddrPort) *probe.Task {
		r.tasks = append(r.tasks, probe.Task{Name: "probe " + name + suffix, Kind: kind, To: to, Mapped: mapped})
		return &r.tasks[len(r.tasks)-1]
	}
	if c.Hooks {
		to := netip.AddrPortFrom(a.nobody[family], refused)
		task("connect", probe.Connect, to)
		task("sendmsg", probe.Send, to)
	}
	task("capture", probe.Captured, netip.AddrPortFrom(a.self[family], port)).Want = r.token
	if resolver := a.resolvers[family]; resolver.IsValid() {
		t := task("names", probe.Names, netip.AddrPortFrom(resolver, 53))
		t.Ask, t.Want = r.name(c.Domains), a.self[family].String()
	}
}

// name is what a round asks for: below the first domain of the mesh.
func (r *round) name(domains []string) string {
	if len(domains) > 0 {
		return r.label + "." + domains[0] + "."
	}
	return r.label + ".virtual.consul."
}
