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

// leaving is what the metadata of a node say that is about to stop; else they are
// empty: nodes announce themselves in payloads.
const leaving = "leaving"

// NodeMeta says whether this node is about to stop.
func (c callbacks) NodeMeta(int) []byte {
	if c.p.retired.Load() {
		return []byte(leaving)
	}
	return nil
}

// NotifyMsg is never called: payloads travel beside memberlist, see spread.
func (c callbacks) NotifyMsg([]byte) {}

// GetBroadcasts returns nothing.
func (c callbacks) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState returns nothing: states travel beside memberlist, see exchange.
func (c callbacks) LocalState(bool) []byte { return nil }

// MergeRemoteState is called with nothing.
func (c callbacks) MergeRemoteState([]byte, bool) {}

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

// NotifyUpdate is called when a node's address or metadata have changed.
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
