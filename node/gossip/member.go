// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"tacit/identity"
)

// Member is a node as gossip sees it. It is a hint for routing only.
type Member struct {
	Name  identity.Name
	Addr  netip.AddrPort // UDP and TCP of its gossip
	Alive bool           // false: declared dead, or has left

	Leaving bool // says that it is about to stop
}

const (
	maxMembers = 4096           // bounds the memory
	forgetDead = 24 * time.Hour // how long a dead member is listed
)

var errFull = fmt.Errorf("the pool already has %d members", maxMembers)

// table is the list of members. memberlist's own list returns pointers that it
// keeps writing to, and drops dead members.
type table struct {
	now     func() time.Time
	mu      sync.Mutex
	members map[identity.Name]entry
}

type entry struct {
	Member
	since    time.Time // of the last change of Alive
	returned bool      // was dead and is alive; reset by table.returned
}

func newTable(now func() time.Time) *table {
	return &table{now: now, members: make(map[identity.Name]entry)}
}

// set stores m; it reports an error when the table is full of live members.
func (t *table) set(m Member) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.members[m.Name]
	if !ok && !t.room() {
		return errFull
	}
	e := entry{Member: m, since: old.since, returned: m.Alive && (old.returned || ok && !old.Alive)}
	if !ok || old.Alive != m.Alive {
		e.since = t.now()
	}
	t.members[m.Name] = e
	return nil
}

// room drops dead members to make room for one more; t.mu is held.
func (t *table) room() bool {
	t.forget(forgetDead)
	if len(t.members) >= maxMembers {
		t.forget(0)
	}
	return len(t.members) < maxMembers
}

func (t *table) forget(after time.Duration) {
	for name, e := range t.members {
		if !e.Alive && t.now().Sub(e.since) >= after {
			delete(t.members, name)
		}
	}
}

// admits returns an error if there is no room for a node of that name.
func (t *table) admits(name identity.Name) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.members[name]; !ok && !t.room() {
		return errFull
	}
	return nil
}

func (t *table) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.members))
	for _, e := range t.members {
		out = append(out, e.Member)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// others lists the live or the dead members, without self.
func (t *table) others(self identity.Name, alive bool) []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(forgetDead)
	out := make([]Member, 0, len(t.members))
	for name, e := range t.members {
		if name != self && e.Alive == alive {
			out = append(out, e.Member)
		}
	}
	return out
}

// returned lists the members that have come back to life since its last call.
func (t *table) returned() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Member
	for name, e := range t.members {
		if e.returned {
			e.returned = false
			t.members[name] = e
			out = append(out, e.Member)
		}
	}
	return out
}

func (t *table) alive() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, e := range t.members {
		if e.Alive {
			n++
		}
	}
	return n
}

// leaving reports whether a member has said that it is about to stop.
func (t *table) leaving(name identity.Name) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.members[name].Leaving
}

// knows reports whether a member, alive or dead, has that address.
func (t *table) knows(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.members {
		if e.Addr.Addr() == addr {
			return true
		}
	}
	return false
}

// memberOf checks memberlist's node, whose fields come from the network.
func memberOf(n *memberlist.Node) (Member, error) {
	name, err := identity.ParseName(n.Name)
	if err != nil {
		return Member{}, fmt.Errorf("member's name: %w", err)
	}
	if string(name) != n.Name {
		return Member{}, errors.New("member's name must be in lower case")
	}
	addr, ok := netip.AddrFromSlice(n.Addr)
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || n.Port == 0 {
		return Member{}, fmt.Errorf("member %s has no usable address", name)
	}
	at := netip.AddrPortFrom(addr.Unmap(), n.Port)
	return Member{Name: name, Addr: at, Leaving: string(n.Meta) == leaving}, nil
}
