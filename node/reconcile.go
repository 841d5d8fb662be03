// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
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
	n.publish()
	n.catalog.Store(catalog.New(n.cfg.name, n.member.ledger, n.alive()))
	digest := n.member.ledger.Digest()
	if digest != n.judged {
		n.table.Store(policy.NewTable(n.cfg.action, n.member.ledger.Intentions()))
		n.judged = digest
	}
	changed, err := n.kernel.Apply(n.desired())
	n.problems.set("maps", err)
	if err != nil {
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

type revision struct {
	Digest   string `json:"d"` // of the intentions in the kernel's maps
	Revision uint64 `json:"r"`
}

// announceRevision publishes what the maps hold, which `--wait` waits for.
func (n *Node) announceRevision() {
	digest := n.table.Load().Digest()
	n.inForce.Store(&digest)
	if digest == n.published {
		return
	}
	meta, err := json.Marshal(revision{Digest: digest, Revision: n.kernel.Revision()})
	if err == nil {
		err = n.pool.SetMeta(meta)
	}
	n.problems.set("gossip", err)
	if err == nil {
		n.published = digest
	}
}

// alive says which nodes answer now.
func (n *Node) alive() func(identity.Name) bool {
	up := map[identity.Name]bool{}
	for _, m := range n.pool.Members() {
		up[m.Name] = m.Alive
	}
	return func(name identity.Name) bool { return up[name] }
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

// desired is the kernel's state as the present picture wants it.
func (n *Node) desired() kernel.State {
	local, cat := n.local.Load(), n.catalog.Load()
	s := kernel.State{Table: n.table.Load(), Workloads: n.workloads(local), Locals: n.localAddrs(), Guards: n.guards(local)}
	for _, svc := range cat.Services() {
		s.Endpoints = append(s.Endpoints, endpoints(cat, local, svc)...)
		for _, in := range cat.Instances(svc) {
			if !in.Here && in.Port != 0 {
				s.Remotes = append(s.Remotes, kernel.Remote{Addr: in.Addr, Service: svc})
			}
		}
	}
	for _, svc := range local.services {
		if !n.member.ledger.Granted(n.cfg.name, svc.Name) {
			continue
		}
		s.Upstreams = append(s.Upstreams, upstreams(cat, svc)...)
	}
	return s
}

// guards closes the ports of all services defined here, granted or not. Where
// two claim one port, strict wins over permissive, and of two services neither
// gets it.
func (n *Node) guards(local *localView) []kernel.Guard {
	byPort, clashes := map[uint16]kernel.Guard{}, map[string]error{}
	for _, svc := range local.services {
		g := kernel.Guard{Port: svc.Port, Service: svc.Name, Permissive: svc.Permissive}
		if old, taken := byPort[g.Port]; taken {
			g.Permissive = g.Permissive && old.Permissive
			if old.Service != g.Service {
				clashes[strconv.Itoa(int(g.Port))] = fmt.Errorf("%s and %s both define it: neither is served there", old.Service, g.Service)
				g.Service = "" // nobody's: refused
			}
		}
		if g.Port != 0 {
			byPort[g.Port] = g
		}
	}
	n.problems.replace("port", clashes)
	return slices.Collect(maps.Values(byPort))
}

// workloads numbers every cgroup that is a workload now. A cgroup claimed by
// two services belongs to neither: which one it is can't be told.
func (n *Node) workloads(local *localView) map[uint64]identity.Name {
	out, twice, clashes := map[uint64]identity.Name{}, map[uint64]bool{}, map[string]error{}
	for _, svc := range local.services {
		if !n.member.ledger.Granted(n.cfg.name, svc.Name) {
			continue
		}
		for _, path := range svc.cgroups {
			id, err := workload.ID(path)
			if err != nil {
				continue
			}
			if other, taken := out[id]; taken && other != svc.Name {
				clashes[path] = refuse(policy.ReasonIdentity, "%s and %s both claim %s", other, svc.Name, path)
				twice[id] = true
			}
			out[id] = svc.Name
		}
	}
	for id := range twice {
		delete(out, id)
	}
	n.problems.replace("workload", clashes)
	return out
}

// endpoints says for each port of a service whether it is reached here or elsewhere.
func endpoints(cat *catalog.Catalog, local *localView, svc identity.Name) []kernel.Endpoint {
	var out []kernel.Endpoint
	for _, port := range cat.Ports(svc) {
		e := kernel.Endpoint{Service: svc, Port: port}
		for _, in := range cat.Instances(svc) {
			if in.Port != port || !in.Alive {
				continue
			}
			if !in.Here {
				e.Remote = true
				continue
			}
			if s, ok := local.find(svc, port, in.ID); ok && s.listener.state != listenerForeign {
				e.Local = s.target()
			}
		}
		if e.Remote || e.Local.IsValid() {
			out = append(out, e)
		}
	}
	return out
}

// target is where the instance is dialled; while nobody listens it is where
// somebody would, so that the caller is refused by the port itself.
func (s localService) target() netip.AddrPort {
	if s.listener.addr.IsValid() {
		return s.listener.addr
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if own, err := netip.ParseAddr(s.Address); err == nil {
		addr = own
	}
	return netip.AddrPortFrom(addr, s.Port)
}

func upstreams(cat *catalog.Catalog, svc localService) []kernel.Upstream {
	var out []kernel.Upstream
	for _, u := range svc.Upstreams {
		port := cat.DefaultPort(u.Destination)
		if ports := cat.Ports(u.Destination); port == 0 && len(ports) > 0 {
			port = ports[0]
		}
		out = append(out, kernel.Upstream{Service: svc.Name, Bind: u.Bind, Destination: u.Destination, Port: port})
	}
	return out
}
