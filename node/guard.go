// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"

	"tacit/bpf"
	"tacit/node/store"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
)

// Guard closes, from saved state and before the daemon is there, what a reboot
// has opened: the ports of the services defined here refuse plain connections,
// and nothing addressed to a virtual address leaves the host. It returns what
// it closed. Run it before the network is up; a daemon takes over from it.
func Guard(c Config) (closed []string, err error) {
	if c.Address == "" {
		c.Address = "127.0.0.1" // the network is not up yet, and no port is opened
	}
	s, err := c.settle()
	if err != nil {
		return nil, err
	}
	tree, err := workload.NewTree(s.Cgroup)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: s, log: c.Log, tree: tree}
	n.local.Store(&localView{})
	if n.store, err = store.Open(s.StateDir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if n.numbers, err = n.store.Numbers(n.log); err != nil {
		return nil, err
	}
	if err := n.openFolder(); err != nil {
		return nil, err
	}
	return n.guardPorts()
}

// defined is what is defined on this node, without a look at what runs.
func (n *Node) defined() (*localView, error) {
	defs, err := n.definitions()
	if err != nil {
		return nil, err
	}
	view := &localView{}
	for _, d := range defs {
		view.services = append(view.services, localService{Definition: d})
	}
	return view, nil
}

func (n *Node) guardPorts() (closed []string, err error) {
	view, err := n.defined()
	if err != nil {
		return nil, err
	}
	if err := n.loadPrograms(0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.objects.Close()) }()
	state := kernel.State{Table: policy.NewTable(policy.Deny, nil), Guards: n.guards(view), Locals: n.localAddrs()}
	if err := n.load(setRemotes, &state.Remotes); err != nil {
		return nil, err
	}
	if _, err := n.kernel.Apply(state); err != nil {
		return nil, err
	}
	for _, g := range state.Guards {
		closed = append(closed, fmt.Sprintf("port %d of %s", g.Port, orNobody(string(g.Service))))
	}
	plan := redirect.GuardPlan(redirect.Config{Range4: n.cfg.Range4, Range6: n.cfg.Range6, IPv6: hasIPv6()})
	if err := redirect.Apply(plan); err != nil {
		return closed, err
	}
	return append(closed, "virtual addresses "+n.cfg.Range4.String()+" and "+n.cfg.Range6.String()), nil
}

// loadPrograms loads and attaches; daemonCgroup 0 exempts nobody.
func (n *Node) loadPrograms(daemonCgroup uint64) error {
	if n.cfg.Redirect == redirectTPROXY {
		h, err := startHookless(n, daemonCgroup != 0)
		if err == nil {
			n.objects, n.kernel = h, h
		}
		return err
	}
	objects, err := bpf.Load(bpf.Config{
		PinDir: n.cfg.BPFDir, Cgroup: n.tree.Root(), Depth: n.tree.Depth(), DaemonCgroup: daemonCgroup,
		Range4: n.cfg.Range4, Range6: n.cfg.Range6, DefaultAllow: n.cfg.action == policy.Allow,
		Limits: bpf.Limits{Intentions: n.cfg.MaxIntentions, Workloads: n.cfg.MaxWorkloads, Origins: n.cfg.MaxConnecting},
	})
	if err != nil {
		return err
	}
	n.objects = objects
	k, err := kernel.New(kernel.Config{Objects: objects, Numbers: n.numbers,
		Range4: n.cfg.Range4, Range6: n.cfg.Range6, Log: n.log})
	if err == nil {
		n.kernel = k
	}
	return err
}
