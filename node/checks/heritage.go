// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"encoding/json"
	"time"
)

// kept is a check's state as another daemon takes it over.
type kept struct {
	Status, Output      string
	Since, Ran, Due     time.Time
	Successes, Failures int
}

// Hold returns the states of all checks, by instance and id, and has no result count
// before Resume: another daemon takes over, and ends the scripts of this one.
func (m *Manager) Hold() (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
	all := map[string]kept{}
	for _, c := range m.checks {
		all[c.key()] = kept{c.status, c.output, c.since, c.ran, c.due, c.successes, c.failures}
	}
	return json.Marshal(all)
}

// Resume undoes Hold.
func (m *Manager) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = false
}

// inherit has a new check begin as it was left, where an earlier daemon ran it.
func (m *Manager) inherit(c *check) {
	k, ok := m.inherited[c.key()]
	if !ok {
		return
	}
	delete(m.inherited, c.key())
	c.state = state{status: k.Status, output: k.Output, since: k.Since, ran: k.Ran, successes: k.Successes, failures: k.Failures}
	if c.Interval == 0 {
		c.due = k.Due
	}
}
