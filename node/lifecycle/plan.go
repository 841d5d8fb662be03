// SPDX-License-Identifier: Apache-2.0

// Package lifecycle is what tacitd does before, beside and after a running
// daemon: plan a start, examine a host, undo a start that nobody confirms, and
// remove what a daemon left. Everything works from the settings and the host
// alone. It must not need a running node, nor a memory of what a node did.
package lifecycle

import (
	"io"

	"tacit/node/config"
)

// Member is what membership knows of a start by the files alone: a running
// daemon has the store locked.
type Member struct {
	Check func(*config.Settled) error    // the error of a start that would enter no mesh
	Files func(*config.Settled) []string // paths of the files that a start keeps in StateDir
}

// Plan prints every change that a start with these settings would make to the
// host, in the order of making, and what is there already. It changes nothing.
// An error that a start would find before its first change is returned.
func Plan(c config.Config, w io.Writer, m Member) error {
	s, err := c.Settle()
	if err != nil {
		return err
	}
	f, err := look(s, m)
	if err != nil {
		return err
	}
	return printPlan(w, f.daemon, f.groups())
}
