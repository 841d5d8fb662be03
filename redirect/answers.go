// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"net/netip"
	"strconv"
)

// This file is for programs that see their callers' own addresses. The daemon calls such a program at a loopback address,
// from the caller's; the route back to that address leads out of the host, so a rule leads the program's packets to lo.
// Cloudflare's mmproxy does the same for all loopback addresses. Here a rule is for one port, so that it changes nothing for
// other programs: without it the kernel sends nothing from 127.0.0.1 to another host.

// self is all loopback addresses of the family.
func (f family) self() netip.Prefix {
	if f.v6 {
		return netip.PrefixFrom(f.loopback, f.loopback.BitLen())
	}
	return netip.PrefixFrom(f.loopback, 8).Masked()
}

// answered are the rules that keep the programs' packets on this host.
func (f family) answered() []rule {
	var out []rule
	for _, port := range f.answers {
		out = append(out, rule{v6: f.v6, priority: tproxyPriority, src: f.self(), sport: port, table: tproxyTable})
	}
	return out
}

// answersUntracked match these connections in both directions: a rule that masquerades by source address must not hide the
// caller.
func (f family) answersUntracked() [][]string {
	var out [][]string
	for _, port := range f.answers {
		p := strconv.Itoa(int(port))
		out = append(out, []string{"-d", f.self().String(), "-p", "tcp", "-m", "tcp", "--dport", p},
			[]string{"-s", f.self().String(), "-p", "tcp", "-m", "tcp", "--sport", p})
	}
	return out
}
