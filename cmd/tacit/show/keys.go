// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/node/api"
)

// Keys prints keys, one a line.
func Keys(w io.Writer, keys []api.Key, width int) {
	t := table.New("KEY", "KIND", "NODE", "SERVICE", "STATE", "SIGNED BY")
	for _, k := range keys {
		t.Row(k.Short(), k.Kind, text.OrDash(string(k.Node)), text.OrDash(string(k.Service)), keyState(k), text.OrDash(text.List(k.SignedBy)))
	}
	t.Print(w, width)
}

func keyState(k api.Key) string {
	switch {
	case k.State == api.KeyRevoked && k.Reason != "":
		return "revoked: " + k.Reason
	case k.Kind == api.KeyRoot && k.Here:
		return "in force (its private key is here)"
	case k.Here:
		return string(k.State) + " (this)"
	}
	return string(k.State)
}

// Revocation prints what was revoked, or what would be, and what becomes of what
// rested on it.
func Revocation(w io.Writer, r *api.RevocationResult, width int) {
	would := "would be "
	if r.Done {
		would = ""
	}
	section := func(title string) { fmt.Fprintln(w, table.OneLine(would+title)) }
	section("revoked for good, signed by " + r.By + ":")
	t := table.New()
	for _, k := range r.Revoked {
		t.Row("  "+k.Short(), k.Kind, text.OrDash(string(k.Node)), k.Service)
	}
	t.Print(w, width)
	rested(w, r.Again, width, func() { section("signed again with keys of this node, since it rests on these alone:") })
	rested(w, r.Lost, width, func() { section("void, as --without says:") })
	if len(r.Withdrawn) > 0 {
		section("withdrawn: grants " + text.List(r.Withdrawn))
	}
}

func rested(w io.Writer, list []api.Rested, width int, title func()) {
	if len(list) == 0 {
		return
	}
	title()
	t := table.New()
	for _, r := range list {
		t.Row("  "+r.Label, r.Says)
	}
	t.Print(w, width)
}
