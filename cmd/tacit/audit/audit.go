// SPDX-License-Identifier: Apache-2.0

// Package audit has the noun audit: what changed in policy, grants and keys. It must
// not decide anything: it asks the daemon.
package audit

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

// Commands are the nouns of this package.
func Commands(e *cli.Env) []*cobra.Command { return []*cobra.Command{command(e)} }

// filter is what the flags select.
type filter struct {
	last  int
	kind  string
	about string
}

func command(e *cli.Env) *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "what changed in policy, grants and keys: who, when, from what, to what",
		Long: "The changes to policy, grants and keys that this node learned, oldest first: who\n" +
			"signed each, when it came into force here, and the value before and after. The\n" +
			"whole log is the file audit.log in the state directory; this shows its latest\n" +
			"four thousand entries at most.",
		Example: "  tacit audit\n" +
			"  tacit audit --kind intention --about db --last 10",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.last < 0 {
				return fmt.Errorf("--last %d: must not be negative", f.last)
			}
			list, err := e.Daemon().Audit(cmd.Context(), 0)
			if err != nil {
				return err
			}
			list.Changes = f.apply(list.Changes)
			return e.Print(list, func(w io.Writer) { printChanges(w, e.Width, list.Changes) })
		},
	}
	cmd.Flags().IntVar(&f.last, "last", 100, "how many entries to show, the latest; 0 for all")
	cmd.Flags().StringVar(&f.kind, "kind", "", "only this kind: intention, grant, resolver, member, …")
	cmd.Flags().StringVar(&f.about, "about", "", "only what names this service, node or key")
	return cmd
}

func (f filter) apply(all []api.AuditEntry) []api.AuditEntry {
	out := slices.DeleteFunc(all, func(c api.AuditEntry) bool {
		return f.kind != "" && c.Kind != f.kind || f.about != "" && !names(c, f.about)
	})
	if f.last > 0 && len(out) > f.last {
		out = out[len(out)-f.last:]
	}
	return out
}

// names reports whether a change is about something: a part of its subject, or its author.
func names(c api.AuditEntry, what string) bool {
	words := strings.FieldsFunc(c.Subject+" "+c.By, func(r rune) bool { return strings.ContainsRune(" >/", r) })
	return slices.Contains(words, what) || strings.HasPrefix(c.Subject, what)
}

func printChanges(w io.Writer, width int, changes []api.AuditEntry) {
	t := table.New("TIME", "BY", "WHAT", "BEFORE", "AFTER", "WHY")
	for _, c := range changes {
		t.Row(c.Time.Local().Format(time.DateTime), c.By, c.Kind+" "+subject(c.Subject), text.OrDash(c.Before), text.OrDash(c.After), text.OrDash(c.Why))
	}
	t.Print(w, width)
}

// subject shortens a key's ID.
func subject(s string) string {
	const keyID, enough = 64, 12
	if len(s) == keyID && strings.Trim(s, "0123456789abcdef") == "" {
		return s[:enough]
	}
	return s
}
