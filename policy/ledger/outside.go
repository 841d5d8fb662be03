// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"net/netip"
	"slices"

	"tacit/identity"
)

// Vouched returns which real names and addresses an operator has said that a
// node's instances of a service may stand for.
func (l *View) Vouched(node, service identity.Name) []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.view.grants[node][service])
}

// NodeAt returns the member that says it has an address.
func (l *View) NodeAt(a netip.Addr) (node identity.Name, is bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for name, n := range l.view.nodes {
		if n.Address == a.String() || slices.Contains(n.Also, a.String()) {
			return name, true
		}
	}
	return "", false
}
