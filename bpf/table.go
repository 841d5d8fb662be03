// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Table is one hash map or trie, with keys and values as Go types.
type Table[K, V comparable] struct {
	name     string
	capacity uint32
	all      func() (map[K]V, error)
	check    func(map[K]V) (map[K]V, bool, error)
	put      func(K, V) error
	del      func(K) error
}

// Name is the name of the map, which is also that of its pin.
func (t Table[K, V]) Name() string { return t.name }

// Capacity is how many entries the map can hold.
func (t Table[K, V]) Capacity() uint32 { return t.capacity }

// All reads the whole map.
func (t Table[K, V]) All() (map[K]V, error) { return t.all() }

// Check returns whether the map holds exactly want and, where it doesn't, what it
// holds. Entries that no Go key or value stands for can't be returned: those that
// writing want wouldn't replace are removed.
func (t Table[K, V]) Check(want map[K]V) (held map[K]V, same bool, err error) { return t.check(want) }

// Put writes one entry. In a full map, a new key is refused with ErrFull.
func (t Table[K, V]) Put(k K, v V) error { return t.put(k, v) }

// Delete removes one entry. A missing one is no error.
func (t Table[K, V]) Delete(k K) error { return t.del(k) }

// ErrFull: the map has no room for a new entry. The entries in it stay.
var ErrFull = errors.New("the map is full")

// form converts between a Go type and its type in the kernel.
type form[G, C any] struct {
	to   func(G) C
	from func(C) G
}

func same[T any]() form[T, T] {
	id := func(v T) T { return v }
	return form[T, T]{id, id}
}

func table[K, V, CK, CV comparable](name string, m *ebpf.Map, key form[K, CK], value form[V, CV]) Table[K, V] {
	return Table[K, V]{
		name:     name,
		capacity: m.MaxEntries(),
		all: func() (map[K]V, error) {
			out := map[K]V{}
			err := each(m, func(k CK, v CV) { out[key.from(k)] = value.from(v) })
			if err != nil {
				return nil, fmt.Errorf("map %s: %w", name, err)
			}
			return out, nil
		},
		check: func(want map[K]V) (map[K]V, bool, error) {
			held, same, err := compare(m, key, value, want)
			if err != nil {
				err = fmt.Errorf("map %s: %w", name, err)
			}
			return held, same, err
		},
		put: func(k K, v V) error {
			err := m.Put(key.to(k), value.to(v))
			if errors.Is(err, ebpf.ErrKeyExist) || err == nil {
				return nil
			}
			return full(name, err)
		},
		del: func(k K) error {
			if err := m.Delete(key.to(k)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("map %s: %w", name, err)
			}
			return nil
		},
	}
}

func compare[K, V, CK, CV comparable](m *ebpf.Map, key form[K, CK], value form[V, CV], want map[K]V) (map[K]V, bool, error) {
	seen, same := 0, true
	err := each(m, func(k CK, v CV) {
		at := key.from(k)
		held, ok := want[at]
		same = same && ok && key.to(at) == k && value.to(held) == v
		seen++
	})
	if err != nil || same && seen == len(want) {
		return nil, err == nil, err
	}
	held := map[K]V{}
	var unknown []CK
	err = each(m, func(k CK, v CV) {
		at, is := key.from(k), value.from(v)
		_, wanted := want[at]
		switch {
		case key.to(at) == k && value.to(is) == v:
			held[at] = is
		case key.to(at) != k || !wanted:
			unknown = append(unknown, k)
		}
	})
	for _, k := range unknown {
		err = errors.Join(err, m.Delete(k))
	}
	return held, false, err
}

// Entries read by one system call: few at first, since most maps are small.
const (
	firstBatch   = 128
	largestBatch = 8192
)

// each calls f for every entry. The kernel returns whole hash buckets, so an entry
// that stays is seen once even if others are written meanwhile.
func each[CK, CV any](m *ebpf.Map, f func(CK, CV)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]CK, firstBatch), make([]CV, firstBatch)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		switch {
		case err == nil, errors.Is(err, ebpf.ErrKeyNotExist):
		case errors.Is(err, unix.ENOSPC) && len(keys) < int(m.MaxEntries()): // a bucket has more entries than the batch
			n = len(keys)
		default:
			return err
		}
		if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
			for i := range n {
				f(keys[i], values[i])
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // the last batch
		}
		if n == len(keys) && n < largestBatch {
			keys, values = make([]CK, 4*n), make([]CV, 4*n)
		}
	}
}
