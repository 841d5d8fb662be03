// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"tacit/identity"
)

// Numbers assigns each service name a number, and so its virtual address. A number
// is stored on disk and never assigned to another name.
type Numbers struct {
	store *Store
	log   *slog.Logger

	mu     sync.RWMutex
	byName map[identity.Name]uint32
	byNum  map[uint32]identity.Name
	last   uint32
}

// Numbers loads the table. Numbers begin at 1; 0 means no service.
func (s *Store) Numbers(log *slog.Logger) (*Numbers, error) {
	n := &Numbers{store: s, log: log, byName: map[identity.Name]uint32{}, byNum: map[uint32]identity.Name{}}
	err := s.each(numbers, func(key string, v []byte) error {
		if len(v) != 4 {
			return fmt.Errorf("state: number of %s: %d bytes, want 4", key, len(v))
		}
		return n.restore(identity.Name(key), binary.BigEndian.Uint32(v))
	})
	return n, err
}

func (n *Numbers) restore(name identity.Name, number uint32) error {
	if number == 0 {
		return fmt.Errorf("state: number of %s: 0, which no service may have", name)
	}
	if other, taken := n.byNum[number]; taken {
		return fmt.Errorf("state: number of %s: %d, which belongs to %s", name, number, other)
	}
	n.keep(name, number)
	return nil
}

// Reserve assigns name a number until the process ends, without storing it, so that
// no other name gets the number.
func (n *Numbers) Reserve(name identity.Name, number uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other, taken := n.byNum[number]; taken && other != name {
		return fmt.Errorf("number %d can't be reserved for %s: it belongs to %s", number, name, other)
	}
	n.byName[name], n.byNum[number] = number, name
	return nil
}

func (n *Numbers) keep(name identity.Name, number uint32) {
	n.byName[name], n.byNum[number] = number, name
	n.last = max(n.last, number)
}

// Number returns the name's number, and assigns the next one to a new name. It
// returns 0, which no connection can reach, when the number can't be stored.
func (n *Numbers) Number(name identity.Name) uint32 {
	n.mu.RLock()
	number, ok := n.byName[name]
	n.mu.RUnlock()
	if ok {
		return number
	}
	n.Assign([]identity.Name{name})
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byName[name]
}

// Assign gives those of the names that are new their numbers, in one write to
// disk. Where that fails, they stay without.
func (n *Numbers) Assign(names []identity.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := n.next(names)
	if len(fresh) == 0 {
		return
	}
	err := n.store.db.Update(func(tx *bbolt.Tx) error {
		for name, number := range fresh {
			if err := tx.Bucket([]byte(numbers)).Put([]byte(name), binary.BigEndian.AppendUint32(nil, number)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.log.Error("can't store services' numbers: the services stay unreachable", "services", slices.Sorted(maps.Keys(fresh)), "err", err)
		return
	}
	for name, number := range fresh {
		n.keep(name, number)
	}
}

// next chooses numbers for the names that have none. The caller holds mu.
func (n *Numbers) next(names []identity.Name) map[identity.Name]uint32 {
	fresh, number := map[identity.Name]uint32{}, n.last
	for _, name := range names {
		if name == "" || n.byName[name] != 0 || fresh[name] != 0 {
			continue
		}
		number++
		for n.byNum[number] != "" { // reserved
			number++
		}
		if number == 0 {
			n.log.Error("all numbers are assigned: the service stays unreachable", "service", name)
			break
		}
		fresh[name] = number
	}
	return fresh
}

// Name returns the name that holds the number.
func (n *Numbers) Name(number uint32) (identity.Name, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	name, ok := n.byNum[number]
	return name, ok
}
