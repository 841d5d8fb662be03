// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"tacit/bpf"
)

// mirror is a map and what it holds, so that only differences are written.
type mirror[K, V comparable] struct {
	table bpf.Table[K, V]
	held  map[K]V
}

func read[K, V comparable](t bpf.Table[K, V], err *error) mirror[K, V] {
	held, e := t.All()
	*err = errors.Join(*err, e)
	return mirror[K, V]{t, held}
}

func (m mirror[K, V]) put(k K, v V) error {
	err := m.table.Put(k, v)
	if err == nil {
		m.held[k] = v
	}
	return err
}

func (m mirror[K, V]) del(k K) error {
	err := m.table.Delete(k)
	if err == nil {
		delete(m.held, k)
	}
	return err
}

// remove deletes what want lacks; write puts what it has. Both count changes
// that were made.
func (m mirror[K, V]) remove(want map[K]V, also func(V) bool) (n int, err error) {
	for k, v := range m.held {
		if _, keep := want[k]; !keep && also(v) {
			e := m.del(k)
			err = errors.Join(err, e)
			n += one(e == nil)
		}
	}
	return n, err
}

func (m mirror[K, V]) write(want map[K]V, also func(V) bool) (n int, err error) {
	for k, v := range want {
		if old, ok := m.held[k]; (!ok || old != v) && also(v) {
			e := m.put(k, v)
			err = errors.Join(err, e)
			n += one(e == nil)
		}
	}
	return n, err
}

func one(done bool) int {
	if done {
		return 1
	}
	return 0
}

type maps struct {
	workloads   mirror[uint64, uint32]
	namespaces  mirror[uint64, uint32]
	users       mirror[uint32, uint32]
	interfaces  mirror[uint32, uint32]
	intentions  mirror[bpf.Pair, bool]
	ports       mirror[bpf.PortKey, bpf.Port]
	guards      mirror[uint16, bpf.Guard]
	remotes     mirror[netip.AddrPort, uint32]
	upstreams   mirror[bpf.UpstreamKey, bpf.Upstream]
	locals      mirror[netip.Addr, uint32]
	exempt      mirror[uint16, uint32]
	nets        mirror[netip.Prefix, uint32]
	exemptPeers mirror[netip.AddrPort, uint32]
	names       mirror[string, uint32]
}

func readMaps(o *bpf.Objects) (maps, error) {
	var err error
	m := maps{
		workloads: read(o.Workloads(), &err), intentions: read(o.Intentions(), &err), ports: read(o.Ports(), &err),
		guards: read(o.Guards(), &err), remotes: read(o.Remotes(), &err), upstreams: read(o.Upstreams(), &err),
		locals: read(o.Locals(), &err), namespaces: read(o.Namespaces(), &err), users: read(o.Users(), &err), interfaces: read(o.Interfaces(), &err),
		exempt: read(o.ExemptPorts(), &err), nets: read(o.ExemptNets(), &err), exemptPeers: read(o.ExemptPeers(), &err), names: read(o.Names(), &err),
	}
	return m, err
}

func always[V any](V) bool { return true }

func allows(v bool) bool { return v }

func denies(v bool) bool { return !v }

// replace writes before it removes: for maps where more means closed, or
// where an entry only routes.
func replace[K, V comparable](m mirror[K, V], want map[K]V) (int, error) {
	wrote, err := m.write(want, always)
	removed, err2 := m.remove(want, always)
	return wrote + removed, errors.Join(err, err2)
}

// become removes before it writes: for maps where more means open.
func (m mirror[K, V]) become(want map[K]V) (int, error) {
	removed, err := m.remove(want, always)
	wrote, err2 := m.write(want, always)
	return removed + wrote, errors.Join(err, err2)
}

// apply writes the differences, in an order in which no moment allows what
// neither the old nor the new state allows: what closes comes first.
func (m maps) apply(want contents, intentions bool) (int, error) {
	total := 0
	var errs []error
	do := func(n int, err error) {
		total += n
		errs = append(errs, err)
	}
	do(replace(m.locals, want.locals))
	do(replace(m.guards, want.guards))
	do(replace(m.remotes, want.remotes))
	do(replace(m.names, want.names))
	if intentions {
		do(m.closeFirst(want.intentions))
	}
	do(m.workloads.become(want.workloads))
	do(m.namespaces.become(want.namespaces))
	do(m.users.become(want.users))
	do(m.interfaces.become(want.interfaces))
	do(m.exempt.become(want.exempt))
	do(m.nets.become(want.nets))
	do(m.exemptPeers.become(want.exemptPeers))
	do(replace(m.ports, want.ports))
	do(replace(m.upstreams, want.upstreams))
	return total, errors.Join(errs...)
}

// closeFirst makes the intentions equal to want: denies, removed allows, allows,
// removed denies. Where the map is too small, allows make room for denies, and
// nothing more is allowed.
func (m maps) closeFirst(want map[bpf.Pair]bool) (int, error) {
	denied, err := m.intentions.write(want, denies)
	removed, err2 := m.intentions.remove(want, allows)
	total, failed := denied+removed, err2
	for errors.Is(err, bpf.ErrFull) && m.evict() {
		denied, err = m.intentions.write(want, denies)
		total += denied
		failed = errors.Join(failed, errEvicted)
	}
	if failed = errors.Join(failed, err); failed != nil {
		return total, failed
	}
	allowed, err := m.intentions.write(want, allows)
	removed, err2 = m.intentions.remove(want, denies)
	return total + allowed + removed, errors.Join(err, err2)
}

var errEvicted = fmt.Errorf("some allowed pairs gave way to denied ones, and are refused: %w", bpf.ErrFull)

// evict takes one allow out and says whether there was one.
func (m maps) evict() bool {
	for k, allow := range m.intentions.held {
		if allow {
			return m.intentions.del(k) == nil
		}
	}
	return false
}
