// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"tacit/internal/testhost"
	"testing"
)

// phase is the state of the daemons while a row is tried.
type phase string

const (
	up       phase = "daemon up"
	killed   phase = "killed"
	starting phase = "starting"
	guarded  phase = "guard only" // after a boot, before the daemon
)

func phases() []phase { return []phase{up, killed, starting, guarded} }

// table counts results, in a line for each vector.
type table struct {
	mu    sync.Mutex
	order []string
	cells map[string]map[phase]*cell
}

// cell is how often rows were tried in a phase, and how often they held.
type cell struct{ rows, held, open int }

func (c cell) String() string {
	switch {
	case c.rows+c.open == 0:
		return "–"
	case c.open > 0:
		return fmt.Sprintf("%d of %d, %d open", c.held, c.rows, c.open)
	case c.held == c.rows:
		return fmt.Sprint(c.held)
	}
	return fmt.Sprintf("%d of %d", c.held, c.rows)
}

func (t *table) cell(vector string, p phase) *cell {
	if t.cells == nil {
		t.cells = map[string]map[phase]*cell{}
	}
	if t.cells[vector] == nil {
		t.cells[vector] = map[phase]*cell{}
		t.order = append(t.order, vector)
	}
	if t.cells[vector][p] == nil {
		t.cells[vector][p] = &cell{}
	}
	return t.cells[vector][p]
}

// begin adds a vector's line at the end, unless the table has it.
func (t *table) begin(vector string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cell(vector, up)
}

// add counts a result.
func (t *table) add(vector string, p phase, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.cell(vector, p)
	c.rows++
	if held {
		c.held++
	}
}

// leave counts a row that wasn't tried since open() lists it.
func (t *table) leave(vector string, p phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cell(vector, p).open++
}

// lines is the table as Markdown.
func (t *table) lines() []string {
	head := "| vector | rows |"
	rule := "|---|---|"
	for _, p := range phases() {
		head, rule = head+" "+string(p)+" |", rule+"---|"
	}
	out := []string{head + " held |", rule + "---|"}
	for _, vector := range t.order {
		var all cell
		line := ""
		for _, p := range phases() {
			c := t.cells[vector][p]
			if c == nil {
				c = &cell{}
			}
			all = cell{all.rows + c.rows, all.held + c.held, all.open + c.open}
			line += " " + c.String() + " |"
		}
		out = append(out, fmt.Sprintf("| %s | %d |%s %s |", vector, all.rows+all.open, line, verdict(all)))
	}
	return out
}

func verdict(c cell) string {
	switch {
	case c.held < c.rows:
		return "**no**"
	case c.open > 0:
		return "except open ones"
	}
	return "yes"
}

// print logs the table and appends it to the file that TACIT_BATTERY_TABLE names. A
// table without a line means that TACIT_BATTERY_VECTOR matches nothing.
func (t *table) print(tb testing.TB) {
	tb.Helper()
	lines := t.lines()
	if len(t.order) == 0 {
		tb.Errorf("TACIT_BATTERY_VECTOR=%s matches no vector", os.Getenv("TACIT_BATTERY_VECTOR"))
	}
	tb.Logf("\n%s", strings.Join(lines, "\n"))
	name := os.Getenv("TACIT_BATTERY_TABLE")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	testhost.Must(tb, err)
	_, err = fmt.Fprintf(f, "## %s\n\n%s\n\n", tb.Name(), strings.Join(slices.Clip(lines), "\n"))
	testhost.Must(tb, err)
	testhost.Must(tb, f.Close())
}
