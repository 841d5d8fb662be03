// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/handover"
	"tacit/node/health"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// newNode is host1 of a new mesh, with the parts that need no kernel.
func newNode(t *testing.T) *Node {
	t.Helper()
	s := &config.Settled{Name: "host1", Addr: netip.MustParseAddr("127.0.0.1"), Config: config.Config{
		Paths: config.Paths{StateDir: t.TempDir(), ServicesDir: t.TempDir()}, LanePort: 7947, GossipPort: 7946, Log: slog.New(slog.DiscardHandler),
		Membership: config.Membership{Bootstrap: true, TrustDomain: "mesh.test", LeafTTL: time.Hour},
		Range4:     netip.MustParsePrefix("240.64.0.0/10"), Range6: netip.MustParsePrefix("fd7a:ac17::/64"),
	}}
	n := &Node{base: base{cfg: s, ipv6: true, log: s.Log, board: health.NewBoard()}, term: &handover.Term{}}
	var err error
	if n.store, err = store.Open(s.StateDir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.store.Close() })
	var held *ledger.Ledger
	if n.member, held, err = membership.Enter(t.Context(), s, n.store); err != nil {
		t.Fatal(err)
	}
	if n.records, err = records.New(records.Config{Self: s.Name, Ledger: held, Store: n.store, Health: n.board, Log: s.Log, Changed: func() {}}); err != nil {
		t.Fatal(err)
	}
	if err := n.openInventory(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// admit makes another node a member; addr is "" for one that was never up.
func admit(t *testing.T, n *Node, name identity.Name, addr string) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sign(t, n, n.member.Authority.Key(), records.Change{Kind: ledger.KindMember, Key: string(name), Body: statement.Member{Node: name, Public: key.Public()}})
	if addr != "" {
		sign(t, n, key, records.Change{Kind: ledger.KindNode, Key: string(name), Body: statement.Node{Node: name, Address: addr, LanePort: 7947, GossipPort: 7900}})
	}
}

func sign(t *testing.T, n *Node, key *identity.Key, c records.Change) {
	t.Helper()
	if err := n.records.Sign(key, c); err != nil {
		t.Fatal(err)
	}
}
