// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"slices"
	"time"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/node/api"
)

// Reach says on how many nodes a change is, where it isn't yet, and which members
// don't answer: is and isn't are "in force" and "not in force".
func Reach(w io.Writer, is, isNot string, done int, c api.Counted) {
	nodes := text.Plural(c.Nodes, "node")
	if c.Live {
		nodes = text.Plural(c.Nodes, "living node")
	}
	fmt.Fprintf(w, "%s on %d of %s after %s", is, done, nodes, text.Elapsed(c.Elapsed))
	if n := len(c.Unreached); c.Live && n > 0 {
		fmt.Fprintf(w, ", %s not reached: %s", text.Plural(n, "member"), table.OneLine(text.List(unreached(c, func(api.Unreached) bool { return true }))))
	}
	fmt.Fprintln(w)
	if len(c.Waiting) > 0 {
		fmt.Fprintf(w, "%s on: %s\n", isNot, table.OneLine(text.List(waiting(c))))
	}
	if said := unreached(c, func(u api.Unreached) bool { return u.InForce }); !c.Live && len(said) > 0 {
		fmt.Fprintf(w, "%s when they last answered: %s\n", is, table.OneLine(text.List(said)))
	}
}

// waiting are the nodes where the change isn't, with those that don't answer.
func waiting(c api.Counted) []string {
	out := slices.Clone(c.Waiting)
	for i, name := range out {
		for _, u := range c.Unreached {
			if string(u.Name) == name {
				out[i] += " (" + NoAnswer(u.Since) + ")"
			}
		}
	}
	return out
}

func unreached(c api.Counted, selected func(api.Unreached) bool) []string {
	var out []string
	for _, u := range c.Unreached {
		if selected(u) {
			out = append(out, fmt.Sprintf("%s (%s)", u.Name, NoAnswer(u.Since)))
		}
	}
	return out
}

// NoAnswer says since when a member doesn't answer: "no answer since 12:03:11".
func NoAnswer(since time.Time) string {
	form := time.TimeOnly
	if time.Since(since) > 12*time.Hour {
		form = time.DateTime
	}
	return "no answer since " + since.Local().Format(form)
}

// InForce says whether a node has the policy with a digest in force.
func InForce(n api.NodePolicy, want string) string {
	switch {
	case n.InForce && n.Alive:
		return "yes"
	case n.InForce:
		return "yes when it last answered: " + NoAnswer(n.Since)
	case !n.Alive:
		return "unknown: " + NoAnswer(n.Since)
	case n.Digest == "":
		return "no: it has announced none"
	}
	return fmt.Sprintf("not yet: it has the policy %s, not %s", n.Digest, want)
}
