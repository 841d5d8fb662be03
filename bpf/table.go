// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Table is the door to one hash map: keys and values in Go's terms.
type Table[K, V comparable] struct {
	name string
	all  func() (map[K]V, error)
	put  func(K, V) error
	del  func(K) error
}

// All reads the whole map.
func (t Table[K, V]) All() (map[K]V, error) { return t.all() }

// Put writes one entry. A full map refuses it with ErrFull.
func (t Table[K, V]) Put(k K, v V) error { return t.put(k, v) }

// Delete removes one entry, or none.
func (t Table[K, V]) Delete(k K) error { return t.del(k) }

// ErrFull: the map has no room for a new entry; those in it stay.
var ErrFull = errors.New("the map is full")

// form says how a Go type looks in the kernel.
type form[G, C any] struct {
	to   func(G) C
	from func(C) G
}

func same[T any]() form[T, T] {
	id := func(v T) T { return v }
	return form[T, T]{id, id}
}

func table[K, V comparable, CK, CV any](name string, m *ebpf.Map, key form[K, CK], value form[V, CV]) Table[K, V] {
	return Table[K, V]{
		name: name,
		all: func() (map[K]V, error) {
			out := map[K]V{}
			var k CK
			var v CV
			it := m.Iterate()
			for it.Next(&k, &v) {
				out[key.from(k)] = value.from(v)
			}
			if err := it.Err(); err != nil {
				return nil, fmt.Errorf("map %s: %w", name, err)
			}
			return out, nil
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
