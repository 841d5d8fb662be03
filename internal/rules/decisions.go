// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	decisionName  = regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)
	decisionTitle = regexp.MustCompile(`^# (\d+)\. \S`)
	decisionDate  = regexp.MustCompile(`^Date: \d{4}-\d{2}-\d{2}$`)
	decisionState = regexp.MustCompile(`^Status: (accepted|superseded by \d{4})$`)
)

// DecisionProblems reports decision records that don't have the form
//
//	# 5. Title
//
//	Date: 2026-01-31
//	Status: accepted
//
//	## Context
//	## Decision
//	## Consequences
//
// in a file named 0005-title.md, and numbers that are missing or used twice.
func DecisionProblems(records []File) []string {
	var problems []string
	numbers := map[string]string{}
	for _, f := range records {
		name := decisionName.FindStringSubmatch(path.Base(f.Path))
		if name == nil {
			problems = append(problems, f.Path+": name it NNNN-title.md, with the record's number")
			continue
		}
		if other := numbers[name[1]]; other != "" {
			problems = append(problems, fmt.Sprintf("%s: %s has the same number", f.Path, other))
		}
		numbers[name[1]] = f.Path
		problems = append(problems, formProblems(f, strings.TrimLeft(name[1], "0"))...)
	}
	for n := range len(numbers) {
		if want := fmt.Sprintf("%04d", n+1); numbers[want] == "" {
			problems = append(problems, fmt.Sprintf("docs/decisions: number %s is missing: numbers have no gaps", want))
		}
	}
	return problems
}

func formProblems(f File, number string) []string {
	lines := append(strings.Split(f.Text, "\n"), "", "", "", "")
	var problems []string
	if title := decisionTitle.FindStringSubmatch(lines[0]); title == nil || title[1] != number {
		problems = append(problems, fmt.Sprintf("%s:1: begin with \"# %s. TITLE\"", f.Path, number))
	}
	if !decisionDate.MatchString(lines[2]) {
		problems = append(problems, f.Path+":3: want a line \"Date: YYYY-MM-DD\"")
	}
	if !decisionState.MatchString(lines[3]) {
		problems = append(problems, f.Path+":4: want a line \"Status: accepted\" or \"Status: superseded by NNNN\"")
	}
	var headings []string
	for _, line := range lines {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			headings = append(headings, heading)
		}
	}
	if !slices.Equal(headings, []string{"Context", "Decision", "Consequences"}) {
		problems = append(problems, f.Path+": the sections must be Context, Decision, Consequences; a second decision is a second record")
	}
	return problems
}
