// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"strconv"

	"tacit/node/definition"
	"tacit/node/inventory/sessions"
	"tacit/redirect/sockdiag"
)

// held decides which definitions of service files wait for a yes, because they
// would close the port by which somebody is logged in to this host. Each is
// decided once, when it appears; what was in force once is never held back.
type held struct {
	kept     setting
	loggedIn func(port uint16) bool

	waits   map[string]bool  // by key; a definition that isn't here hasn't been decided
	waiting map[string]error // those of the last list, by instance id
}

func key(d definition.Definition) string { return d.ID + ":" + strconv.Itoa(int(d.Port)) }

// admit marks definitions as decided: they are in force.
func (h *held) admit(defs []definition.Definition) {
	for _, d := range defs {
		if _, decided := h.waits[key(d)]; !decided {
			h.waits[key(d)], h.kept.dirty = false, true
		}
	}
}

// holdBack returns the definitions that don't wait, and forgets what it knew
// of those that are gone.
func (h *held) holdBack(defs []definition.Definition) []definition.Definition {
	out, now := make([]definition.Definition, 0, len(defs)), map[string]bool{}
	h.waiting = map[string]error{}
	for _, d := range defs {
		if d.Source == SourceCommand || d.LocalPort() == 0 || d.Permissive {
			out = append(out, d)
			continue
		}
		k := key(d)
		waits, decided := h.waits[k]
		if !decided {
			waits = h.loggedIn(d.Port)
		}
		if now[k] = waits; !waits {
			out = append(out, d)
			continue
		}
		h.waiting[d.ID] = fmt.Errorf("%s is not in force: people are logged in to this host by port %d, and it would close that port; if it is meant: tacit service register %s --id %s --port %d --yes",
			d.Source, d.Port, d.Name, d.ID, d.Port)
	}
	h.waits, h.kept.dirty = now, true
	return out
}

// someoneLoggedIn says whether a remote shell uses the port. Where the kernel
// doesn't answer, nobody is: a definition must not stay out of force for that.
func someoneLoggedIn(port uint16) bool {
	conns, err := sockdiag.EstablishedOn(port)
	return err == nil && len(sessions.Logins(conns)) > 0
}

// Held reports whether a definition with this id and port waits for a yes.
func (i *Inventory) Held(d definition.Definition) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held.waits[key(d)]
}

// Release puts a definition that waits in force: somebody has said yes. The
// next Look finds it.
func (i *Inventory) Release(d definition.Definition) (was bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.held.waits[key(d)] {
		return false, nil
	}
	i.held.waits[key(d)], i.held.kept.dirty, i.defined.stale = false, true, true
	return true, i.held.kept.save(i.held.waits)
}
