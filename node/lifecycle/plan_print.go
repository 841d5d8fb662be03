// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"io"
	"strings"
)

// group is one heading of a plan with its steps.
type group struct {
	title string
	steps []step
}

// step is one change. Its state is a word that can be searched for.
type step struct{ state, text string }

const (
	stateAdd      = "add"
	statePresent  = "present" // and stays as it is
	stateUpdate   = "update"  // is there, and is changed
	stateRemove   = "remove"
	stateNever    = "untouched"
	stateConflict = "conflict" // a start reports it and goes on
)

func (g *group) step(state, format string, args ...any) {
	g.steps = append(g.steps, step{state, fmt.Sprintf(format, args...)})
}

// make adds a step for what a start makes where it is missing.
func (g *group) make(present bool, format string, args ...any) {
	state := stateAdd
	if present {
		state = statePresent
	}
	g.step(state, format, args...)
}

// printPlan writes the groups as text. daemon is the process of a tacitd that
// runs here, 0 for none.
func printPlan(w io.Writer, daemon int, groups []group) error {
	var out strings.Builder
	out.WriteString("A start of tacitd with these settings makes the changes below, in this order. Nothing has been done.\n")
	if daemon != 0 {
		fmt.Fprintf(&out, "A tacitd runs here now (process %d): a start is refused until it has stopped. What it holds is shown as present.\n", daemon)
	}
	for _, g := range groups {
		fmt.Fprintf(&out, "\n%s\n", g.title)
		for _, s := range g.steps {
			fmt.Fprintf(&out, "  %-9s %s\n", s.state, s.text)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}
