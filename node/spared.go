// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"tacit/redirect/sockdiag"

	"tacit/node/definition"
)

// setSpared is the setting with the connections that no enrolment cuts, and
// setHeld that with the service files that wait for a yes.
const (
	setSpared = "spared"
	setHeld   = "held"
)

// sparedConn is a plain connection that stays although its port has become a
// service's: a session in which an operator works on this host.
type sparedConn struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Cookie uint64         `json:"cookie"` // of its socket; no other has it until the next boot
}

// sessions are what is kept of operators' sessions; both survive a restart.
type sessions struct {
	mu   sync.Mutex
	conn []sparedConn
	// held says of each service file's definition, by id and port, whether it
	// waits for a yes. One that isn't here hasn't been looked at.
	held map[string]bool
}

func heldKey(d definition.Definition) string { return fmt.Sprintf("%s:%d", d.ID, d.Port) }

// loadSessions reads what an earlier daemon kept.
func (n *Node) loadSessions() error {
	n.sessions.held = map[string]bool{}
	return errors.Join(n.load(setSpared, &n.sessions.conn), n.load(setHeld, &n.sessions.held))
}

func (n *Node) load(name string, into any) error {
	text, err := n.store.Get(name)
	if err != nil || len(text) == 0 {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("state: %s: %w", name, err)
	}
	return nil
}

// keep writes a setting where it has changed.
func (n *Node) keep(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	old, err := n.store.Get(name)
	if err != nil || bytes.Equal(old, text) {
		return err
	}
	return n.store.Set(name, text)
}

// spare keeps connections from being cut, over a restart too.
func (n *Node) spare(conns []sockdiag.Connection) error {
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	for _, c := range conns {
		one := sparedConn{c.Local, c.Remote, c.Cookie}
		if !slices.Contains(n.sessions.conn, one) {
			n.sessions.conn = append(n.sessions.conn, one)
		}
	}
	return n.keep(setSpared, n.sessions.conn)
}

// spared are the connections that no enrolment cuts and that are still there.
// Whoever cuts plain connections leaves these alone.
func (n *Node) spared() []sparedConn {
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	alive := map[uint16][]sockdiag.Connection{}
	n.sessions.conn = slices.DeleteFunc(n.sessions.conn, func(s sparedConn) bool {
		port := s.Local.Port()
		if _, asked := alive[port]; !asked {
			conns, err := sockdiag.EstablishedOn(port)
			if err != nil {
				return false // what can't be looked at stays
			}
			alive[port] = conns
		}
		return !slices.ContainsFunc(alive[port], func(c sockdiag.Connection) bool { return sparedConn{c.Local, c.Remote, c.Cookie} == s })
	})
	n.problems.set("spared sessions", n.keep(setSpared, n.sessions.conn))
	return slices.Clone(n.sessions.conn)
}

// holdBack takes out service files' definitions that would close the port by
// which somebody is logged in to this host: they wait until tacit service
// register says yes. Each is looked at once, when it appears; what was in
// force once is never held.
func (n *Node) holdBack(defs []definition.Definition) []definition.Definition {
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	waiting, seen := map[string]error{}, map[string]bool{}
	out := slices.DeleteFunc(slices.Clone(defs), func(d definition.Definition) bool {
		if d.Source == sourceCommand || d.Port == 0 || d.Permissive {
			return false
		}
		key := heldKey(d)
		seen[key] = true
		held, known := n.sessions.held[key]
		if !known {
			held = len(sessionsOn(d.Port)) > 0
			n.sessions.held[key] = held
		}
		if held {
			waiting[d.ID] = fmt.Errorf("%s is not in force: people are logged in to this host by port %d, and it would close that port; if it is meant: tacit service register %s --id %s --port %d --yes",
				d.Source, d.Port, d.Name, d.ID, d.Port)
		}
		return held
	})
	for key := range n.sessions.held {
		if !seen[key] {
			delete(n.sessions.held, key)
		}
	}
	n.problems.replace("held", waiting)
	n.problems.set("held files", n.keep(setHeld, n.sessions.held))
	return out
}

// sessionsOn are the remote shells by a port; none where that can't be told,
// since a definition must not stay out of force for it.
func sessionsOn(port uint16) []sockdiag.Connection {
	conns, err := sockdiag.EstablishedOn(port)
	if err != nil {
		return nil
	}
	return loginSessions(conns)
}

// release puts a held definition in force: somebody has said yes.
func (n *Node) release(d definition.Definition) (was bool, err error) {
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	key := heldKey(d)
	if !n.sessions.held[key] {
		return false, nil
	}
	n.sessions.held[key] = false
	return true, n.keep(setHeld, n.sessions.held)
}

// peersOf names up to five of the remote ends.
func peersOf(conns []sockdiag.Connection) string {
	const most = 5
	var out []string
	for _, c := range conns[:min(len(conns), most)] {
		out = append(out, c.Remote.String())
	}
	text := strings.Join(out, ", ")
	if more := len(conns) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// waits says whether a definition like this one is held back.
func (n *Node) waits(d definition.Definition) bool {
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	return n.sessions.held[heldKey(d)]
}
