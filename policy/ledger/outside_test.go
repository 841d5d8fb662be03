// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"net/netip"
	"slices"
	"testing"

	"tacit/policy/ledger/statement"
)

// TestVouched: what an operator has said last about a node's outside services, and
// nobody else.
func TestVouched(t *testing.T) {
	m := newMesh(t)
	say := func(outside ...string) {
		m.sign(m.op, KindGrant, "n1/rds", statement.Grant{Node: "n1", Service: "rds", Outside: outside})
	}
	say("a.example", "203.0.113.5", "203.0.113.6:5432")
	if got := m.l.Vouched("n1", "rds"); !slices.Equal(got, []string{"a.example", "203.0.113.5", "203.0.113.6:5432"}) || !m.l.Granted("n1", "rds") {
		t.Error(got)
	}
	say()
	if got := m.l.Vouched("n1", "rds"); len(got) != 0 || !m.l.Granted("n1", "rds") {
		t.Error(got)
	}
	for _, bad := range []string{"A.example", "db", "10.0.0.1:0", "010.0.0.1", "a.example:80", "::ffff:10.0.0.1"} {
		if _, err := m.l.Prepare(m.op, KindGrant, "n1/rds", statement.Grant{Node: "n1", Service: "rds", Outside: []string{bad}}); err == nil {
			t.Errorf("%s was signed", bad)
		}
	}
}

// TestOutsideRecords: a record of an outside instance says where it is, in one form.
func TestOutsideRecords(t *testing.T) {
	for _, c := range []struct {
		port uint16
		o    *statement.Outside
		ok   bool
	}{
		{0, nil, true},
		{1, &statement.Outside{Hosts: []string{"a.example"}}, true},
		{1, &statement.Outside{Addresses: []string{"203.0.113.5:5432", "[2001:db8::5]:1"}, Anywhere: true, Header: true}, true},
		{1, &statement.Outside{}, false},
		{0, &statement.Outside{Hosts: []string{"a.example"}}, false},
		{1, &statement.Outside{Hosts: []string{"A.example"}}, false},
		{1, &statement.Outside{Hosts: slices.Repeat([]string{"a.example"}, 33)}, false},
		{1, &statement.Outside{Addresses: []string{"203.0.113.5"}}, false},
		{1, &statement.Outside{Addresses: []string{"203.0.113.5:0"}}, false},
		{1, &statement.Outside{Addresses: []string{"[::ffff:203.0.113.5]:1"}}, false},
		{1, &statement.Outside{Addresses: []string{"[fe80::1%eth0]:1"}}, false},
		{1, &statement.Outside{Addresses: []string{"224.0.0.1:1"}}, false},
	} {
		_, err := statement.Instance{Node: "n1", Service: "rds", ID: "rds", Port: c.port, Outside: c.o}.Info()
		if (err == nil) != c.ok {
			t.Errorf("%d %+v: %v", c.port, c.o, err)
		}
	}
}

// TestNodeAt finds a member by each of its addresses.
func TestNodeAt(t *testing.T) {
	m := newMesh(t)
	m.sign(m.n1, KindNode, "n1", statement.Node{Node: "n1", Address: "10.0.0.1", Also: []string{"fd00::1"}, LanePort: 1})
	for addr, want := range map[string]string{"10.0.0.1": "n1", "fd00::1": "n1", "10.0.0.2": ""} {
		if node, is := m.l.NodeAt(netip.MustParseAddr(addr)); string(node) != want || is != (want != "") {
			t.Errorf("%s: %s %v", addr, node, is)
		}
	}
}
