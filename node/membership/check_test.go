// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/membership"
)

func TestCheckPeer(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	member, gone := n.admit(t, "n2"), n.admit(t, "n3")
	n.revoke(t, gone.ID(), "n3")
	service, authority := newKey(t), newKey(t)
	n.revoke(t, service.ID(), "")
	n.revoke(t, authority.ID(), "")
	check := membership.CheckPeer(n.records.View())
	for _, c := range []struct {
		name string
		id   identity.ID
		key  *identity.Key
		by   *identity.Key
		want string // "": passes
	}{
		{"a member", identity.NodeID(domain, "n2"), member, n.Authority.Key(), ""},
		{"a member by another's name", identity.NodeID(domain, "n1"), member, n.Authority.Key(), "no member with this key"},
		{"a key that nobody knows", identity.NodeID(domain, "n2"), newKey(t), n.Authority.Key(), "no member with this key"},
		{"a name that nobody has", identity.NodeID(domain, "n9"), member, n.Authority.Key(), "no member with this key"},
		{"a service", identity.ServiceID(domain, "db"), newKey(t), n.Authority.Key(), ""},
		{"a revoked key", identity.NodeID(domain, "n3"), gone, n.Authority.Key(), "its key has been revoked"},
		{"a service's revoked key", identity.ServiceID(domain, "db"), service, n.Authority.Key(), "its key has been revoked"},
		{"a member by a revoked authority", identity.NodeID(domain, "n2"), member, authority, "the key " + authority.ID().Short() + " of the authority that issued its certificate has been revoked"},
		{"a service by a revoked authority", identity.ServiceID(domain, "db"), newKey(t), authority, "of the authority that issued"},
	} {
		err := check(c.id, []identity.KeyID{c.key.ID(), c.by.ID()})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.id.String()+": ") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
