// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"

	"tacit/node/datapath"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/node/reconcile"
	"tacit/node/store"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
	"tacit/redirect/links"
)

// Guard closes, from saved state and before the daemon runs, what a reboot has
// opened: the ports of the services defined here refuse plain connections, and
// nothing addressed to a virtual address leaves the host. It returns what it
// closed. Run it before the network is up; a daemon takes over from it.
func Guard(c Config) (closed []string, err error) {
	if c.Address == "" {
		c.Address = "127.0.0.1" // the network is not up yet, and no port is opened
	}
	s, err := c.Settle()
	if err != nil {
		return nil, err
	}
	b := &base{cfg: s, ipv6: links.HasIPv6(), log: s.Log, board: health.NewBoard()}
	if b.tree, err = workload.NewTree(s.Cgroup); err != nil {
		return nil, err
	}
	if b.store, err = store.Open(s.StateDir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	for _, line := range b.store.Said {
		b.log.Warn("state: " + line)
	}
	if err := b.openInventory(); err != nil {
		return nil, err
	}
	view, err := b.inventory.Defined()
	if err != nil {
		return nil, err
	}
	b.inventory.Keep()
	return b.guard(view)
}

func (b *base) guard(view *inventory.View) (closed []string, err error) {
	if err := b.load(view, 0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.hooks.Close()) }()
	state := kernel.State{Table: policy.NewTable(policy.Deny, nil), Locals: datapath.NewAddresses(b.cfg.Addr, b.board).List()}
	state.Guards, _ = view.Guards(inventory.EphemeralPorts())
	if state.Remotes, err = (reconcile.Remotes{Settings: b.store}).Kept(); err != nil {
		return nil, err
	}
	if _, err := b.enforcer.Apply(state); err != nil {
		return nil, err
	}
	for _, g := range state.Guards {
		closed = append(closed, fmt.Sprintf("port %d of %s", g.Port, orNobody(g.Service)))
	}
	plan := redirect.GuardPlan(redirect.Config{Range4: b.cfg.Range4, Range6: b.cfg.Range6, IPv6: b.ipv6})
	if err := redirect.Apply(plan); err != nil {
		return closed, err
	}
	return append(closed, "virtual addresses "+b.cfg.Range4.String()+" and "+b.cfg.Range6.String()), nil
}
