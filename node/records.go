// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/node/gossip"
	"tacit/policy/ledger"
)

// sign makes a record, keeps it on disk, and only then puts it in force here
// and sends it to the others: a record that can't be kept was never made.
func (n *Node) sign(key *identity.Key, kind ledger.Kind, name string, body any, del bool) error {
	n.signing.Lock()
	defer n.signing.Unlock()
	prepare := n.member.ledger.Prepare
	if del {
		prepare = n.member.ledger.PrepareDelete
	}
	rec, err := prepare(key, kind, name, body)
	if err != nil {
		return err
	}
	if err := n.store.SaveRecords([]ledger.Record{rec}, nil); err != nil {
		return fmt.Errorf("the change can't be kept, so it was not made: %w", err)
	}
	if _, rejected := n.member.ledger.Merge([]ledger.Record{rec}); len(rejected) > 0 {
		return fmt.Errorf("%s %s: %w", kind, name, rejected[0].Err)
	}
	n.spread([]ledger.Record{rec})
	return nil
}

// take merges records from others: kept, put in force, and passed on.
func (n *Node) take(recs []ledger.Record) error {
	n.signing.Lock()
	defer n.signing.Unlock()
	changed, rejected := n.member.ledger.Merge(recs)
	for _, r := range rejected {
		n.log.Debug("record refused", "kind", r.Record.Kind, "key", r.Record.Key, "err", r.Err)
	}
	if len(changed) == 0 {
		return nil
	}
	n.unsaved = append(n.unsaved, changed...)
	n.save()
	n.spread(changed)
	return nil
}

// save keeps what isn't on disk yet, with what has been seen: never the second
// without the first, or a record would be refused for ever after a restart.
// The caller holds signing.
func (n *Node) save() {
	if len(n.unsaved) == 0 {
		return
	}
	err := n.store.SaveRecords(n.unsaved, n.member.ledger.Seen())
	n.problems.set("state", err)
	if err != nil {
		n.log.Error("records can't be kept; serving from memory and trying again", "err", err)
		return
	}
	n.unsaved = nil
}

// saveAgain is for a disk that has room again.
func (n *Node) saveAgain() {
	n.signing.Lock()
	defer n.signing.Unlock()
	n.save()
}

func (n *Node) spread(recs []ledger.Record) {
	if payload, err := json.Marshal(recs); err == nil && n.pool != nil {
		n.pool.Broadcast(payload)
	}
	n.nudge()
}

func (n *Node) nudge() { wake(n.kick) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// gossiper is the node as gossip sees it.
type gossiper struct{ n *Node }

// State is everything, for push/pull.
func (g gossiper) State() []byte {
	payload, err := json.Marshal(g.n.member.ledger.Records())
	if err != nil {
		g.n.log.Error("records can't be encoded", "err", err)
	}
	return payload
}

// Merge takes what came in, once the pool is there to pass it on.
func (g gossiper) Merge(payload []byte) {
	<-g.n.joined
	member := func(name identity.Name) bool {
		_, ok := g.n.member.ledger.Member(name)
		return ok
	}
	if g.n.heard.take(payload, member) {
		return
	}
	var recs []ledger.Record
	if err := json.Unmarshal(payload, &recs); err != nil {
		g.n.log.Debug("unreadable records from gossip", "err", err)
		return
	}
	if err := g.n.take(recs); err != nil {
		g.n.log.Warn("records not merged", "err", err)
	}
}

// Admit binds a member's name to its signed record: nobody who merely holds
// the gossip key can speak for a member at another address.
func (g gossiper) Admit(name identity.Name, addr netip.AddrPort) error {
	l := g.n.member.ledger
	m, ok := l.Member(name)
	if !ok {
		return fmt.Errorf("%s is no member", name)
	}
	if key, err := identity.KeyIDOf(m.Public); err != nil || l.Revoked(key) {
		return fmt.Errorf("%s has been revoked", name)
	}
	if host, ok := l.Node(name); ok && host.Address != addr.Addr().Unmap().String() {
		return fmt.Errorf("%s is at %s by its record, not at %s", name, host.Address, addr.Addr())
	}
	return nil
}

// Changed reconciles: liveness or somebody's revision changed.
func (g gossiper) Changed() { g.n.nudge() }

func (n *Node) startGossip() error {
	pool, err := gossip.Start(gossip.Config{
		Name: n.cfg.name, Bind: n.cfg.addr, Port: n.cfg.GossipPort,
		Key: n.member.gossipKey, Label: n.member.bundle.Fingerprint().Short(),
		Delegate: gossiper{n}, Log: n.log,
	})
	if err != nil {
		return portError("--gossip-port", n.cfg.GossipPort, err)
	}
	n.pool = pool
	close(n.joined)
	return nil
}

// rejoin calls the members known from records, and those of --join, until one
// answers; alone in the mesh there is nobody to call.
func (n *Node) rejoin(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		addrs := n.peers()
		if len(addrs) == 0 {
			return nil
		}
		err := n.pool.Join(ctx, addrs)
		if err == nil {
			return nil
		}
		n.log.Warn("no member answers yet", "tried", addrs, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (n *Node) peers() []string {
	var out []string
	for _, m := range n.member.ledger.Members() {
		if host, ok := n.member.ledger.Node(m.Node); ok && m.Node != n.cfg.name {
			out = append(out, net.JoinHostPort(host.Address, strconv.Itoa(int(host.GossipPort))))
		}
	}
	for _, addr := range n.cfg.Join {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			addr = host
		}
		out = append(out, net.JoinHostPort(addr, strconv.Itoa(int(n.cfg.GossipPort))))
	}
	return out
}

// announce signs this node's own record where its addresses are new.
func (n *Node) announce() error {
	body := ledger.NodeBody{Node: n.cfg.name, Address: n.cfg.addr.String(),
		LanePort: n.cfg.LanePort, GossipPort: n.cfg.GossipPort, Version: n.cfg.Version}
	for _, addr := range n.presence.open(n) {
		body.Also = append(body.Also, addr.String())
	}
	if old, ok := n.member.ledger.Node(n.cfg.name); ok && reflect.DeepEqual(old, body) {
		return nil
	}
	err := n.sign(n.member.key, ledger.KindNode, string(n.cfg.name), body, false)
	if errors.Is(err, ledger.ErrNotAuthorized) {
		return fmt.Errorf("this node's key is no member's any more (revoked?): remove %s and join again with a new token", n.cfg.StateDir)
	}
	return err
}
