// SPDX-License-Identifier: Apache-2.0

package seen

import (
	"net/netip"

	"tacit/node/definition"
	"tacit/redirect/netns"
)

// address is what the socket to a program is bound to; foreign: to an address that
// isn't this host's.
func (d Dialer) address(c Call) (at netip.Addr, foreign bool) {
	if c.Show == definition.ClientOwn && c.In == (netns.Namespace{}) {
		if own := d.own(c); d.usable(own, c.To.Addr().Unmap()) {
			return own, true
		}
	}
	return d.virtual(c), false
}

// own is the caller's own address: that of its network namespace, or that of its
// node where it reached its daemon by loopback.
func (d Dialer) own(c Call) netip.Addr {
	if a := c.Client.Addr().Unmap(); !a.IsLoopback() || c.Node == "" {
		return a
	}
	return d.Host(c.Node)
}

// usable returns whether a program can be called from an address. The caller's node
// only claims it, so it must be none that programs trust as local. Answers come back
// by a rule for loopback addresses alone (redirect.Config.Answers).
func (d Dialer) usable(own, program netip.Addr) bool {
	return own.IsGlobalUnicast() && own.Zone() == "" && !d.Local(own) && program.IsLoopback() && own.Is4() == program.Is4()
}
