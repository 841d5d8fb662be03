// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"time"

	"tacit/bpf"
)

// registry lists every map that a State fills, in the order in which Apply
// writes them: what restricts is written before what permits. rules sums the
// intentions.
func registry(o *bpf.Objects, rules *ruleSum) []entry {
	between := func() error { _, err := o.Bump(); return err }
	shut := func() error { return errors.Join(o.SetDefault(false), between()) }
	return []entry{
		declare(o.Locals(), addFirst, (*compiler).locals),
		declare(o.Guards(), addFirst, (*compiler).guards),
		declare(o.InnerGuards(), addFirst, (*compiler).innerGuards),
		leading(declare(o.Remotes(), addFirst, (*compiler).remotes)),
		leading(rarely(declare(o.Names(), addFirst, (*compiler).names))),
		summed(declare(o.Intentions(), denyFirst(between, shut), (*compiler).intentions), rules),
		declare(o.Workloads(), removeFirst, (*compiler).workloads),
		declare(o.Namespaces(), removeFirst, (*compiler).namespaces),
		declare(o.Users(), removeFirst, (*compiler).users),
		declare(o.Interfaces(), removeFirst, (*compiler).interfaces),
		declare(o.ExemptPorts(), removeFirst, (*compiler).exemptPorts),
		declare(o.ExemptNets(), removeFirst, (*compiler).exemptNets),
		declare(o.ExemptPeers(), removeFirst, (*compiler).exemptPeers),
		leading(declare(o.Ports(), addFirst, (*compiler).ports)),
		leading(declare(o.Upstreams(), addFirst, (*compiler).upstreams)),
	}
}

// entry is one map of the registry, whatever the types of its keys and values.
type entry interface {
	name() string
	// read takes over what the map holds when the daemon starts.
	read() error
	// plan compiles the contents. The returned function writes the differences
	// and counts them.
	plan(*compiler) (write func() (int, error))
	// stale says that the map may lack something of the State that was planned
	// last: a write failed, a name had no number, or something else wrote there.
	stale() bool
	// verify compares the map with what was written. Where it differs, the next
	// plan starts from what the map holds.
	verify() (same bool, err error)
	room() Room
	// leads says that the map permits nothing: it says where connections and names
	// lead. What it has no room for can't be reached, and the policy is in force.
	leads() bool
}

// leading marks such a map.
func leading(e entry) entry { return leader{e} }

type leader struct{ entry }

func (leader) leads() bool { return true }

// declare ties a map to its contents and to the order in which they are written.
func declare[K, V comparable](t bpf.Table[K, V], write func(mirror[K, V], map[K]V) (int, error),
	compile func(*compiler) map[K]V) *declared[K, V] {
	return &declared[K, V]{mirror: mirror[K, V]{table: t}, write: write, compile: compile, outdated: true}
}

// summed keeps a sum of what the map holds.
func summed[K, V comparable](d *declared[K, V], s sum[K, V]) entry {
	d.sum = s
	return d
}

type declared[K, V comparable] struct {
	mirror[K, V]
	write    func(mirror[K, V], map[K]V) (int, error)
	compile  func(*compiler) map[K]V // nil: as planned last
	outdated bool
}

func (d *declared[K, V]) name() string { return d.table.Name() }

func (d *declared[K, V]) leads() bool { return false }

func (d *declared[K, V]) read() error {
	held, err := d.table.All()
	d.take(held)
	return err
}

func (d *declared[K, V]) plan(c *compiler) func() (int, error) {
	c.stale, c.unnumbered = d.outdated, false
	want, incomplete := d.compile(c), c.unnumbered
	if want == nil {
		return func() (int, error) { return 0, nil }
	}
	return func() (int, error) {
		n, err := d.write(d.mirror, want)
		d.outdated = incomplete || err != nil
		return n, err
	}
}

func (d *declared[K, V]) stale() bool { return d.outdated }

func (d *declared[K, V]) verify() (same bool, err error) {
	held, same, err := d.table.Check(d.held)
	if err == nil && !same {
		d.take(held)
		d.outdated = true
	}
	return same, err
}

func (d *declared[K, V]) room() Room {
	return Room{d.name(), uint64(len(d.held)), uint64(d.table.Capacity())}
}

// rareInterval is how often a map is read back that admits nobody and costs much to
// read: the names that never leave the host, 14 and more for each service, are in a
// trie, and reading them took more time than all other maps together.
const rareInterval = 10 * time.Second

// rare is such a map.
type rare struct {
	entry
	last time.Time // when it was verified
}

func rarely(e entry) entry { return &rare{entry: e} }

func (r *rare) verify() (same bool, err error) {
	if time.Since(r.last) < rareInterval {
		return true, nil
	}
	r.last = time.Now()
	return r.entry.verify()
}

// readAll reads every map of the registry.
func readAll(all []entry) error {
	for _, e := range all {
		if err := e.read(); err != nil {
			return fmt.Errorf("read at start: %w", err)
		}
	}
	return nil
}
