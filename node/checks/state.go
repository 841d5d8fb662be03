// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"fmt"
	"strings"
	"time"

	"tacit/node/definition"
)

// state is what the runs of a check have come to.
type state struct {
	status    string
	output    string
	since     time.Time
	ran       time.Time
	successes int // in a row
	failures  int // in a row
}

// count applies the thresholds to one result, as Consul's agent does: a warning
// is a success here. changed reports whether the status is another.
func (c *check) count(now time.Time, status, output string) (changed bool) {
	c.ran, c.output = now, output
	critical := max(c.Thresholds.Critical, 1)
	warning := c.Thresholds.Warning
	if warning == 0 {
		warning = critical
	}
	if status != definition.StatusCritical {
		c.successes, c.failures = c.successes+1, 0
		return c.successes >= c.Thresholds.Passing && c.set(now, status)
	}
	c.successes, c.failures = 0, c.failures+1
	switch {
	case c.failures >= critical:
		return c.set(now, status)
	case c.failures >= warning:
		return c.set(now, definition.StatusWarning)
	}
	return false
}

// reported takes over a status that needs no threshold.
func (c *check) reported(now time.Time, status, output string) (changed bool) {
	c.ran, c.output = now, output
	return c.set(now, status)
}

func (c *check) set(now time.Time, status string) (changed bool) {
	if c.status == status {
		return false
	}
	c.status, c.since = status, now
	return true
}

// announce tells of a status that has changed. The caller holds mu.
func (m *Manager) announce(c *check, now time.Time) {
	m.conf.Log.Info("health check", "service", c.service, "instance", c.instance, "check", c.Name, "status", c.status,
		"output", lastLine(c.output), "defined", c.Source)
	m.follow(now)
	m.conf.Changed()
}

// lastLine is what fits in a log line.
func lastLine(text string) string {
	const most = 200
	line := text[strings.LastIndexByte(text, '\n')+1:]
	return strings.ToValidUTF8(line[:min(len(line), most)], "")
}

// follow brings the alias checks up to date. An alias may follow another, so
// changes are carried on until there are none; in a circle nothing is critical
// but what was. The caller holds mu.
func (m *Manager) follow(now time.Time) {
	for range m.checks {
		moved := false
		for _, c := range m.checks {
			if c.Kind != definition.CheckAlias {
				continue
			}
			status, why := m.followed(c)
			if c.reported(now, status, why) {
				moved = true
				m.conf.Changed()
			}
		}
		if !moved {
			return
		}
	}
}

// followed is the worst status of the instance, or of all instances of the
// service, that an alias names.
func (m *Manager) followed(alias *check) (status, why string) {
	status, why = definition.StatusPassing, alias.Target+": no check says otherwise"
	for _, c := range m.checks {
		if c.instance != alias.Target && string(c.service) != alias.Target || c.instance == alias.instance {
			continue
		}
		if worse(c.status, status) {
			status, why = c.status, fmt.Sprintf("%s: check %s is %s", c.instance, c.Name, c.status)
		}
	}
	if !m.known[alias.Target] {
		return definition.StatusCritical, alias.Target + ": no instance of this node has this id or name"
	}
	return status, why
}

func worse(a, b string) bool {
	rank := map[string]int{definition.StatusWarning: 1, definition.StatusCritical: 2}
	return rank[a] > rank[b]
}
