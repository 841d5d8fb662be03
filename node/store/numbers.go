// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"

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
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, ok := n.byName[name]; ok {
		return number
	}
	next := n.last + 1
	for n.byNum[next] != "" { // reserved
		next++
	}
	if next == 0 {
		n.log.Error("all numbers are assigned: the service stays unreachable", "service", name)
		return 0
	}
	if err := n.store.put(numbers, string(name), binary.BigEndian.AppendUint32(nil, next)); err != nil {
		n.log.Error("can't store a service's number: the service stays unreachable", "service", name, "err", err)
		return 0
	}
	n.keep(name, next)
	return next
}

// Name returns the name that holds the number.
func (n *Numbers) Name(number uint32) (identity.Name, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	name, ok := n.byNum[number]
	return name, ok
}
