// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"

	"github.com/hashicorp/memberlist"
)

// callbacks is called by memberlist in its receive loop or with its lock held, so
// its methods only copy and queue.
type callbacks struct{ p *Pool }

var (
	_ memberlist.Delegate         = callbacks{}
	_ memberlist.EventDelegate    = callbacks{}
	_ memberlist.AliveDelegate    = callbacks{}
	_ memberlist.ConflictDelegate = callbacks{}
)

// NodeMeta is empty: nodes announce themselves in payloads.
func (c callbacks) NodeMeta(int) []byte { return nil }

// NotifyMsg takes a broadcast, by packet or stream.
func (c callbacks) NotifyMsg(frame []byte) {
	payload, fresh := c.p.spread.receive(frame)
	if fresh && !c.p.inbox.put(payload) {
		c.p.log.Warn("gossip payload dropped: merging is too slow; the next push/pull will carry it")
	}
}

// GetBroadcasts returns frames to piggyback on memberlist's own packets.
func (c callbacks) GetBroadcasts(overhead, limit int) [][]byte {
	return c.p.spread.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns this node's half of a push/pull.
func (c callbacks) LocalState(bool) []byte { return c.p.cfg.Delegate.State() }

// MergeRemoteState takes the other node's half.
func (c callbacks) MergeRemoteState(state []byte, _ bool) {
	if len(state) > 0 && !c.p.inbox.put(append([]byte(nil), state...)) {
		c.p.log.Warn("gossip state dropped: merging is too slow; the next push/pull will carry it")
	}
}

// NotifyAlive checks every announcement of a live node before memberlist accepts it.
func (c callbacks) NotifyAlive(n *memberlist.Node) error {
	m, err := memberOf(n)
	if err != nil {
		return err
	}
	if m.Name == c.p.cfg.Name {
		if m.Addr != c.p.addr {
			return fmt.Errorf("%s claims this node's name", m.Addr)
		}
		return nil
	}
	if err := c.p.table.admits(m.Name); err != nil {
		return err
	}
	return c.p.cfg.Delegate.Admit(m.Name, m.Addr)
}

// NotifyJoin is called when a node is alive, for the first time or again.
func (c callbacks) NotifyJoin(n *memberlist.Node) { c.note(n, true) }

// NotifyUpdate is called when a node's address has changed.
func (c callbacks) NotifyUpdate(n *memberlist.Node) { c.note(n, true) }

// NotifyLeave is called when a node is dead or has left.
func (c callbacks) NotifyLeave(n *memberlist.Node) { c.note(n, false) }

// NotifyConflict is called when two nodes use one name.
func (c callbacks) NotifyConflict(existing, other *memberlist.Node) {
	c.p.log.Warn("two nodes use one name in gossip", "node", existing.Name,
		"known", existing.Address(), "other", other.Address())
}

func (c callbacks) note(n *memberlist.Node, alive bool) {
	m, err := memberOf(n)
	if err != nil || c.p.closed.Load() {
		return
	}
	m.Alive = alive
	if err := c.p.table.set(m); err != nil {
		c.p.log.Warn("member not listed", "node", m.Name, "error", err)
		return
	}
	wake(c.p.changed)
	wake(c.p.healing)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// report reports membership changes to the delegate, outside memberlist's lock.
func (p *Pool) report() {
	for {
		select {
		case <-p.changed:
			p.cfg.Delegate.Changed()
		case <-p.ctx.Done():
			return
		}
	}
}
