// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math"
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
	above  uint32 // as the copy says: no number above it was ever given
}

// Numbers loads the table. Numbers begin at 1; 0 means no service. Where some may
// be missing, the next ones are higher than any that was ever given.
func (s *Store) Numbers(log *slog.Logger) (*Numbers, error) {
	n := &Numbers{store: s, log: log, byName: map[identity.Name]uint32{}, byNum: map[uint32]identity.Name{}}
	less := false
	err := s.each(numbers, func(key string, v []byte) error {
		if err := n.restore(identity.Name(key), v); err != nil {
			log.Error("a service's number is damaged: the service gets a new one", "err", err)
			less = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n, n.skip(less)
}

func (n *Numbers) restore(name identity.Name, raw []byte) error {
	if len(raw) != 4 {
		return fmt.Errorf("state: number of %s: %d bytes, want 4", name, len(raw))
	}
	number := binary.BigEndian.Uint32(raw)
	if number == 0 {
		return fmt.Errorf("state: number of %s: 0, which no service may have", name)
	}
	if other, taken := n.byNum[number]; taken {
		return fmt.Errorf("state: number of %s: %d, which belongs to %s", name, number, other)
	}
	n.keep(name, number)
	return nil
}

const (
	ahead     = 64      // numbers that are given before the copy must be written again
	farBeyond = 1 << 16 // numbers that are left out when nobody knows how many were given
)

// skip leaves out the numbers that may have been given to services whose entries
// were lost: programs and live connections may still use them.
func (n *Numbers) skip(less bool) error {
	if kept, err := n.store.Kept(copyNumbers); err == nil && len(kept) == 4 {
		n.above = binary.BigEndian.Uint32(kept)
	}
	floor, err := n.store.Get(setFloor)
	if err != nil {
		return err
	}
	if len(floor) == 4 {
		n.last = max(n.last, binary.BigEndian.Uint32(floor))
	}
	lost, err := n.store.Get(setLess)
	if err != nil || lost == nil && !less {
		return err
	}
	if n.last = max(n.last, n.above); n.above == 0 {
		n.last += farBeyond
	}
	n.log.Warn("services' numbers may be missing: services without one get new virtual addresses, none of which another service had", "above", n.last)
	if err := n.store.Set(setFloor, binary.BigEndian.AppendUint32(nil, n.last)); err != nil {
		return err
	}
	return n.store.unset(setLess)
}

// raise makes sure that the copy says a number which none up to last exceeds.
func (n *Numbers) raise(last uint32) error {
	if last <= n.above && n.above != 0 {
		return nil
	}
	above := last + ahead
	if above < last {
		above = math.MaxUint32
	}
	if err := n.store.Keep(copyNumbers, binary.BigEndian.AppendUint32(nil, above)); err != nil {
		return err
	}
	n.above = above
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
	err := n.raise(slices.Max(slices.Collect(maps.Values(fresh))))
	if err == nil {
		err = n.store.update(n.writing(fresh))
	}
	if err != nil {
		n.log.Error("can't store services' numbers: the services stay unreachable", "services", slices.Sorted(maps.Keys(fresh)), "err", err)
		return
	}
	for name, number := range fresh {
		n.keep(name, number)
	}
	n.store.keepServices()
}

func (n *Numbers) writing(fresh map[identity.Name]uint32) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		for name, number := range fresh {
			if err := bucketOf(tx, numbers).Put([]byte(name), binary.BigEndian.AppendUint32(nil, number)); err != nil {
				return err
			}
		}
		return nil
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
