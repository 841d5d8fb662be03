// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/ledger"
)

// lookInterval is how often cgroups and listening sockets are looked at again;
// records, members and definitions wake the loop by themselves.
const lookInterval = 500 * time.Millisecond

type noRecords struct{}

func (noRecords) Instances() []ledger.InstanceBody           { return nil }
func (noRecords) Node(identity.Name) (ledger.NodeBody, bool) { return ledger.NodeBody{}, false }

func (n *Node) reconcileLoop(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.kick:
		case <-n.kernel.SweepWanted():
			n.sweepDue.Store(true) // a pair completed behind a sweep's back
		}
		n.reconcile()
	}
}

// reconcile makes everything equal to the records once: instances published,
// maps written, live connections judged again, the revision announced.
func (n *Node) reconcile() {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.saveAgain()
	n.local.Store(n.lookAtLocal())
	n.tellPlaces()
	n.excluded = n.exclusions(n.local.Load())
	n.publish()
	up := n.alive()
	cat := catalog.New(n.cfg.name, n.member.ledger, func(name identity.Name) bool { return up[name] })
	digest := n.member.ledger.Digest()
	if digest != n.judged || !maps.Equal(up, n.up) {
		wake(n.found)
	}
	n.up = up
	if digest != n.judged {
		n.table.Store(policy.NewTable(n.cfg.action, n.member.ledger.Intentions()))
		n.judged = digest
	}
	changed, err := n.kernel.Apply(n.desired(cat))
	n.catalog.Store(cat) // after the maps: a name that is answered must not leave the host any more
	if news := n.problems.set("maps", err); news && err != nil {
		n.log.Error("the kernel's maps are not what the records say", "err", err)
	}
	if changed || digest != n.swept { // a revocation or a withdrawn grant need not change a map
		n.sweepDue.Store(true)
	}
	n.swept = digest
	if n.sweepDue.Swap(false) && n.sweep() != nil {
		n.sweepDue.Store(true) // again next time
	}
	n.wallet.Want(n.granted())
	if err == nil {
		n.announceRevision()
	}
}

// watchCgroups wakes the loop when a workload's cgroup may have been made, so
// that its first program is known at once.
func (n *Node) watchCgroups(ctx context.Context) error {
	workload.Watch(ctx, n.places, n.kick)
	return nil
}

// tellPlaces says where cgroups of workloads could be made now.
func (n *Node) tellPlaces() {
	var dirs []string
	for _, s := range n.local.Load().services {
		dirs = append(dirs, n.tree.Places(s.Name, selector(s.Definition))...)
	}
	slices.Sort(dirs)
	if dirs = slices.Compact(dirs); slices.Equal(dirs, n.watched) {
		return
	}
	select {
	case n.places <- dirs:
		n.watched = dirs
	default: // next time
	}
}

// sweep judges live connections again: streams in the proxy, and same-node
// pairs in the kernel.
func (n *Node) sweep() error {
	streams := n.proxy.Sweep()
	pairs, err := n.kernel.Sweep(context.Background())
	n.problems.set("sweep", err)
	if streams+pairs > 0 {
		n.log.Info("connections cut by a change", "streams", streams, "same_node", pairs, "revision", n.kernel.Revision())
	}
	return err
}

// announceRevision publishes what the maps hold, which `--wait` waits for.
func (n *Node) announceRevision() {
	digest := n.table.Load().Digest()
	n.inForce.Store(&digest)
	if digest == n.published {
		return
	}
	now := revision{Digest: digest, Revision: n.kernel.Revision()}
	meta, err := json.Marshal(now)
	if err == nil {
		err = n.pool.SetMeta(meta)
	}
	if said, bad := json.Marshal(spoken{n.cfg.name, now}); bad == nil {
		n.pool.Broadcast(said)
	}
	n.problems.set("gossip", err)
	if err == nil {
		n.published = digest
	}
}

// alive says which nodes answer now.
func (n *Node) alive() map[identity.Name]bool {
	up := map[identity.Name]bool{}
	for _, m := range n.pool.Members() {
		up[m.Name] = m.Alive
	}
	return up
}

// publish signs the instances that run here, and withdraws those that don't.
func (n *Node) publish() {
	want, grants, signed := map[string]ledger.InstanceBody{}, map[string]error{}, map[string]error{}
	for _, s := range n.local.Load().services {
		if err := n.grantOwn(s.Name); err != nil {
			grants[string(s.Name)] = err
			continue
		}
		want[s.ID] = n.instanceBody(s)
	}
	for _, old := range n.member.ledger.Published(n.cfg.name) {
		body, keep := want[old.ID]
		if keep && reflect.DeepEqual(normal(body), normal(old)) {
			delete(want, old.ID)
			continue
		}
		if !keep {
			signed[old.ID] = n.signInstance(old, true)
		}
	}
	for _, body := range want {
		signed[body.ID] = n.signInstance(body, false)
	}
	n.problems.replace("grant", grants)
	n.problems.replace("publish", signed)
}

// grantOwn is nil when this node may run the service. A node with an operator
// key grants itself what root has defined on it.
func (n *Node) grantOwn(service identity.Name) error {
	if n.member.ledger.Granted(n.cfg.name, service) {
		return nil
	}
	if n.member.operator == nil {
		return n.notGranted(service)
	}
	if err := n.signGrant(n.cfg.name, service, false); err != nil {
		return err
	}
	n.log.Info("granted to this node with its operator key", "service", service)
	return nil
}

// granted are the services defined here that this node may run.
func (n *Node) granted() []identity.Name {
	return slices.DeleteFunc(n.local.Load().names(), func(s identity.Name) bool { return !n.member.ledger.Granted(n.cfg.name, s) })
}

// normal makes an instance comparable: JSON drops empty lists.
func normal(b ledger.InstanceBody) ledger.InstanceBody {
	if len(b.Tags) == 0 {
		b.Tags = nil
	}
	if len(b.Meta) == 0 {
		b.Meta = nil
	}
	return b
}

func (n *Node) instanceBody(s localService) ledger.InstanceBody {
	return ledger.InstanceBody{Node: n.cfg.name, Service: s.Name, ID: s.ID, Port: s.Port, Address: s.Address,
		Tags: s.Tags, Meta: s.Meta, Weight: s.Weight, Permissive: s.Permissive}
}

func (n *Node) signInstance(body ledger.InstanceBody, del bool) error {
	err := n.sign(n.member.key, ledger.KindInstance, string(n.cfg.name)+"/"+body.ID, body, del)
	if err != nil {
		n.log.Error("instance not published", "service", body.Service, "id", body.ID, "err", err)
	}
	return err
}
