// SPDX-License-Identifier: Apache-2.0

// Package checks runs the health checks of this node's instances and keeps
// their last results. It must not decide what follows from a result, nor reach
// anything but the instance that a check belongs to.
package checks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/redirect/netns"
)

const (
	maxScripts = 16              // that run at the same time
	maxDials   = 128             // checks that wait for an answer at the same time: they cost little, and may hang long
	maxOutput  = 4 << 10         // bytes of output that are kept
	firstRun   = time.Second / 2 // a new check runs within this time, spread by chance
)

// Result is what is known of one check.
type Result struct {
	ID, Name string
	Kind     definition.CheckKind
	Status   string    // passing, warning or critical
	Output   string    // of the last run, at most 4 KiB
	Since    time.Time // when the status became what it is
	Ran      time.Time // end of the last run; zero: none so far
	Source   string    // file:line
}

// Config is what a Manager works with. Changed must neither block nor call the
// Manager.
type Config struct {
	// Target says where an instance is reached, at least at one address, and in which
	// network namespace; the error, why nobody may be dialled there.
	Target func(instance string) ([]netip.AddrPort, netns.Namespace, error)
	// Tag marks a socket as that of a check of service.
	Tag func(fd int, service identity.Name) error
	// Scripts is a cgroup; each script runs in a cgroup of its own below it.
	Scripts string
	Changed func() // the status of some check has changed
	Log     *slog.Logger
	// Inherited is what Hold has returned in the daemon whose work this one takes over.
	Inherited json.RawMessage
}

// Manager is safe for concurrent use.
type Manager struct {
	conf Config
	try  func(context.Context, *check) (status, output string)
	wake chan struct{}

	mu      sync.Mutex
	checks  []*check        // in the order of the definitions
	known   map[string]bool // instances and services of this node, with checks or without
	scripts int             // that run now
	dials   int             // other checks that run now

	inherited map[string]kept // states of checks that haven't begun yet
	held      bool            // no result counts
}

// check is one check of an instance. Manager.mu guards state and what follows;
// the rest never changes.
type check struct {
	definition.HealthCheck
	instance string
	service  identity.Name
	port     uint16 // of the instance
	proxied  bool   // it expects the PROXY protocol there
	state

	due  time.Time          // of the next run; zero: it has none
	stop context.CancelFunc // of the run that goes on; nil: none does
	gone bool               // removed: the result doesn't count
}

// New makes the cgroup of the scripts. What an earlier daemon left running in
// it is ended.
func New(c Config) (*Manager, error) {
	m := &Manager{conf: c, wake: make(chan struct{}, 1)}
	m.try = m.run
	if err := openScripts(c.Scripts); err != nil {
		return nil, fmt.Errorf("the cgroup of check scripts: %w", err)
	}
	if len(c.Inherited) > 0 {
		if err := json.Unmarshal(c.Inherited, &m.inherited); err != nil {
			return nil, fmt.Errorf("inherited states of health checks: %w", err)
		}
	}
	return m, nil
}

// Set takes over what is defined now. Checks that are defined as before go on.
func (m *Manager) Set(defs []definition.Definition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := map[string]*check{}
	for _, c := range m.checks {
		last[c.key()] = c
	}
	now := time.Now()
	var next []*check
	m.known = map[string]bool{}
	for _, d := range defs {
		m.known[d.ID], m.known[string(d.Name)] = true, true
		for _, h := range d.Checks {
			c := &check{HealthCheck: h, instance: d.ID, service: d.Name, port: d.Port, proxied: d.ClientAddress == definition.ClientProxyProtocol}
			if old, ok := last[c.key()]; ok && old.same(c) {
				delete(last, c.key())
				next = append(next, old)
				continue
			}
			c.begin(now)
			m.inherit(c)
			next = append(next, c)
		}
	}
	for _, c := range last {
		c.end()
	}
	m.checks = next
	m.follow(now)
	m.nudge()
}

func (c *check) key() string { return c.instance + "/" + c.ID } // an instance's id has no /

func (c *check) same(o *check) bool {
	return c.service == o.service && c.port == o.port && c.proxied == o.proxied && reflect.DeepEqual(c.HealthCheck, o.HealthCheck)
}

// begin sets the state before the first run.
func (c *check) begin(now time.Time) {
	c.state = state{status: c.Status, since: now}
	switch {
	case c.Interval > 0:
		c.due = now.Add(rand.N(min(c.Interval, firstRun)))
	case c.Kind == definition.CheckTTL && c.Status != definition.StatusCritical:
		c.due = now.Add(c.TTL)
	}
}

func (c *check) end() {
	c.gone = true
	if c.stop != nil {
		c.stop()
	}
}

// Results are those of one instance, in the order of its file.
func (m *Manager) Results(instance string) []Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Result
	for _, c := range m.checks {
		if c.instance == instance {
			out = append(out, Result{ID: c.ID, Name: c.Name, Kind: c.Kind, Status: c.status, Output: c.output, Since: c.since, Ran: c.ran, Source: c.Source})
		}
	}
	return out
}

// Critical says why an instance can't serve: "check NAME", or "" when no check
// is critical.
func (m *Manager) Critical(instance string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.checks {
		if c.instance == instance && c.status == definition.StatusCritical {
			return "check " + c.Name
		}
	}
	return ""
}

// Update is told the status of a ttl check, by its id or, where several
// instances use that id, INSTANCE/ID. Errors say what was given wrong.
func (m *Manager) Update(id, status, note string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.ttl(id)
	if err != nil {
		return err
	}
	now := time.Now()
	c.due = now.Add(c.TTL)
	if c.reported(now, status, cut(note)) {
		m.announce(c, now)
	}
	m.nudge()
	return nil
}

// ttl finds the ttl check of that id. The caller holds mu.
func (m *Manager) ttl(id string) (*check, error) {
	var found []*check
	var all []string
	for _, c := range m.checks {
		if c.Kind == definition.CheckTTL {
			all = append(all, c.key())
		}
		if c.ID == id || c.key() == id {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("no check of this node has the id %s; ttl checks: %s", id, cmp.Or(strings.Join(all, ", "), "none"))
	case len(found) > 1:
		return nil, fmt.Errorf("several instances have a check %s: give one of %s", id, strings.Join(all, ", "))
	case found[0].Kind != definition.CheckTTL:
		return nil, fmt.Errorf("%s is a %s check (%s), which the daemon runs itself; only ttl checks are told their status", id, found[0].Kind, found[0].Source)
	}
	return found[0], nil
}

// join puts the verdict below the program's own output, of which the beginning
// is kept: a verdict is the last line, and never cut off.
func join(output, verdict string) string {
	verdict = cut(verdict)
	output = cut(output)
	output = strings.ToValidUTF8(output[:min(len(output), max(0, maxOutput-len(verdict)-1))], "")
	return strings.TrimSpace(output + "\n" + verdict)
}

// cut limits output, at the border of a character.
func cut(text string) string {
	if len(text) > maxOutput {
		text = text[:maxOutput]
	}
	return strings.ToValidUTF8(strings.TrimSpace(text), "")
}
