// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"strings"
	"testing"

	"tacit/internal/rules"
)

func TestDecisionRule(t *testing.T) {
	const (
		body  = "\nDate: 2026-01-31\nStatus: accepted\n\n## Context\n\n## Decision\n\n## Consequences\n"
		good  = "# 1. One thing\n" + body
		place = "docs/decisions/"
	)
	second := rules.File{Path: place + "0002-b.md", Text: "# 2. Another thing\n" + body}
	for name, c := range map[string]struct {
		path, text string
		want       string // "": no problem
	}{
		"good":             {"0001-a.md", good, ""},
		"superseded":       {"0001-a.md", strings.Replace(good, "accepted", "superseded by 0002", 1), ""},
		"no number":        {"a.md", good, "name it NNNN-title.md"},
		"number twice":     {"0002-a.md", "# 2. One thing\n" + body, "0002-b.md: docs/decisions/0002-a.md has the same number"},
		"a gap":            {"0003-a.md", "# 3. One thing\n" + body, "number 0001 is missing"},
		"no title":         {"0001-a.md", "One thing\n" + body, "0001-a.md:1: begin with \"# 1. TITLE\""},
		"another's number": {"0001-a.md", "# 2. One thing\n" + body, "0001-a.md:1: begin with"},
		"no date":          {"0001-a.md", strings.Replace(good, "Date: 2026-01-31", "", 1), "0001-a.md:3: want a line \"Date:"},
		"no status":        {"0001-a.md", strings.Replace(good, "accepted", "maybe", 1), "0001-a.md:4: want a line \"Status:"},
		"no consequences":  {"0001-a.md", strings.Replace(good, "## Consequences", "", 1), "the sections must be"},
		"two decisions":    {"0001-a.md", good + "\n## Decision\n", "a second decision is a second record"},
		"empty":            {"0001-a.md", "", "0001-a.md:1: begin with"},
	} {
		got := strings.Join(rules.DecisionProblems([]rules.File{{Path: place + c.path, Text: c.text}, second}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
