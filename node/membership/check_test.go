// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/membership"
)

// leaf is a certificate as far as the check looks: at its key.
func leaf(key *identity.Key) *x509.Certificate {
	return &x509.Certificate{RawSubjectPublicKeyInfo: key.Public()}
}

func TestCheckPeer(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	member, gone := n.admit(t, "n2"), n.admit(t, "n3")
	n.revoke(t, gone.ID(), "n3")
	check := membership.CheckPeer(n.records.View())
	for _, c := range []struct {
		name string
		id   identity.ID
		key  *identity.Key
		want string // "": passes
	}{
		{"a member", identity.NodeID(domain, "n2"), member, ""},
		{"a member by another's name", identity.NodeID(domain, "n1"), member, "no member with this key"},
		{"a key that nobody knows", identity.NodeID(domain, "n2"), newKey(t), "no member with this key"},
		{"a name that nobody has", identity.NodeID(domain, "n9"), member, "no member with this key"},
		{"a service", identity.ServiceID(domain, "n2"), member, "not a node"},
		{"a revoked key", identity.NodeID(domain, "n3"), gone, "its key has been revoked"},
	} {
		err := check(c.id, leaf(c.key))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.id.String()+": "+c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
