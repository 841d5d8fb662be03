// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"tacit/bpf"
)

// mirror is a map and a copy of its contents, so that only differences are
// written.
type mirror[K, V comparable] struct {
	table bpf.Table[K, V]
	held  map[K]V
	sum   sum[K, V] // nil: nobody wants one
}

// sum is kept up to date with what a mirror holds.
type sum[K, V comparable] interface {
	put(K, V)
	remove(K, V)
	reset(map[K]V)
}

func (m mirror[K, V]) put(k K, v V) error {
	err := m.table.Put(k, v)
	if err == nil {
		m.forget(k)
		if m.held[k] = v; m.sum != nil {
			m.sum.put(k, v)
		}
	}
	return err
}

func (m mirror[K, V]) del(k K) error {
	err := m.table.Delete(k)
	if err == nil {
		m.forget(k)
	}
	return err
}

func (m mirror[K, V]) forget(k K) {
	old, had := m.held[k]
	if had && m.sum != nil {
		m.sum.remove(k, old)
	}
	delete(m.held, k)
}

// take replaces what is held by what was read.
func (m *mirror[K, V]) take(held map[K]V) {
	if m.held = held; m.sum != nil {
		m.sum.reset(held)
	}
}

// remove deletes the entries that want lacks and whose value is selected. It
// returns how many it deleted.
func (m mirror[K, V]) remove(want map[K]V, selected func(V) bool) (n int, err error) {
	for k, v := range m.held {
		if _, keep := want[k]; !keep && selected(v) {
			e := m.del(k)
			err = errors.Join(err, e)
			n += one(e == nil)
		}
	}
	return n, err
}

// add writes the entries of want that the map lacks or holds with another
// value, and whose value is selected. It returns how many it wrote.
func (m mirror[K, V]) add(want map[K]V, selected func(V) bool) (n int, err error) {
	for k, v := range want {
		if old, ok := m.held[k]; (!ok || old != v) && selected(v) {
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

func always[V any](V) bool { return true }

func allows(v bool) bool { return v }

func denies(v bool) bool { return !v }

// addFirst adds before it removes: for maps whose entries restrict, or only
// say where a connection goes.
func addFirst[K, V comparable](m mirror[K, V], want map[K]V) (int, error) {
	added, err := m.add(want, always)
	removed, err2 := m.remove(want, always)
	return added + removed, errors.Join(err, err2)
}

// removeFirst removes before it adds: for maps whose entries permit.
func removeFirst[K, V comparable](m mirror[K, V], want map[K]V) (int, error) {
	removed, err := m.remove(want, always)
	added, err2 := m.add(want, always)
	return removed + added, errors.Join(err, err2)
}

// errOpen: a deny isn't in the map.
var errOpen = errors.New("a deny intention has no room in the kernel's map, so all that no rule allows is refused, whatever the default")

// denyFirst adds denies, removes allows, calls between, adds allows, removes denies.
// In a map that is too small, allows make room for denies, and no allow is added; then
// the denies that aren't wanted any more do, after shut has made the default deny. A
// decision that between separates from its first look-up is made again (decide.h), so
// none misses a new deny and an old one both.
func denyFirst(between, shut func() error) func(m mirror[bpf.Pair, bool], want map[bpf.Pair]bool) (int, error) {
	return func(m mirror[bpf.Pair, bool], want map[bpf.Pair]bool) (int, error) {
		total, err := restrict(m, want, shut)
		if err == nil && total > 0 {
			err = between()
		}
		if err != nil {
			return total, err
		}
		allowed, err := m.add(want, allows)
		removed, err2 := m.remove(want, denies)
		return total + allowed + removed, errors.Join(err, err2)
	}
}

// restrict is the first half of denyFirst.
func restrict(m mirror[bpf.Pair, bool], want map[bpf.Pair]bool, shut func() error) (int, error) {
	denied, err := m.add(want, denies)
	removed, failed := m.remove(want, allows)
	total := denied + removed
	for errors.Is(err, bpf.ErrFull) && evict(m) {
		denied, err = m.add(want, denies)
		total += denied
		failed = errors.Join(failed, errEvicted)
	}
	if errors.Is(err, bpf.ErrFull) {
		denied, err = exchange(m, want, shut)
		total += denied
	}
	if err != nil {
		err = errors.Join(errOpen, err)
	}
	return total, errors.Join(failed, err)
}

// exchange has denies that aren't wanted any more give way to those that are.
func exchange(m mirror[bpf.Pair, bool], want map[bpf.Pair]bool, shut func() error) (int, error) {
	if err := shut(); err != nil {
		return 0, errors.Join(bpf.ErrFull, err)
	}
	removed, err := m.remove(want, denies)
	denied, err2 := m.add(want, denies)
	return removed + denied, errors.Join(err, err2)
}

var errEvicted = fmt.Errorf("allow intentions were removed to make room for deny intentions, and their connections are refused: %w", bpf.ErrFull)

// evict removes one allow, and returns false where there is none.
func evict(m mirror[bpf.Pair, bool]) bool {
	for k, allow := range m.held {
		if allow {
			return m.del(k) == nil
		}
	}
	return false
}
