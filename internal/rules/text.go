// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// registry matches the hosts that packages come from; each is written so that
// it doesn't match itself.
var registry = regexp.MustCompile(`(?i)\b((proxy|sum|index)\.golang\.org|[a-z-]+\.debian\.org|pypi\.org|pythonhosted\.org|` +
	`registry\.npmjs\.org|registry\.yarnpkg\.com|static\.crates\.io|ghcr\.io|quay\.io|docker\.io|gcr\.io)\b`)

// machine matches paths of one person's machine.
var machine = regexp.MustCompile(`(^|[^\w.~-])/(work|root|home|Users)/[\w.]`)

// PlaceProblems finds names of one machine or of one network.
func PlaceProblems(f File) []string {
	if f.Path == "go.sum" || f.Path == "LICENSE" || strings.Contains(f.Text, "\x00") { // hashes, law, objects
		return nil
	}
	var problems []string
	n := 0
	for line := range strings.Lines(f.Text) {
		n++
		if m := registry.FindString(line); m != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s: where packages come from is the machine's setting", f.Path, n, m))
		}
		if m := machine.FindString(line); m != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s…: a path of one machine", f.Path, n, strings.TrimSpace(m)))
		}
	}
	return problems
}

// ShellProblem wants `set -eu` before the first command of a shell script,
// with or without -o pipefail.
func ShellProblem(f File) string {
	first, rest, _ := strings.Cut(f.Text, "\n")
	if !f.Is(".sh") && !(strings.HasPrefix(first, "#!") && strings.HasSuffix(strings.TrimSpace(first), "sh")) {
		return ""
	}
	if !strings.HasPrefix(first, "#") {
		rest = f.Text
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "set -eu") {
			return ""
		}
		break
	}
	return f.Path + ": begin with set -eu: an error that is passed over shows up elsewhere"
}

var (
	makeLine   = regexp.MustCompile(`^(?:\S*[#$] )?make ([a-z-]+)`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)
	roomLine   = regexp.MustCompile("^\\| ((?:`[a-z/]+`(?:, )?)+) \\|")
	quoted     = regexp.MustCompile("`([a-z/]+)`")
)

// ReadmeProblems wants every `make` of a code block to be a target of the
// Makefile, and every room of the table to be a folder.
func ReadmeProblems(readme, makefile string, isFolder func(string) bool) []string {
	targets := map[string]bool{}
	for _, m := range makeTarget.FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = true
	}
	var problems []string
	inBlock, blocks := false, 0
	for line := range strings.Lines(readme) {
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
			blocks++
		}
		if m := makeLine.FindStringSubmatch(line); inBlock && m != nil && !targets[m[1]] {
			problems = append(problems, "README.md: make "+m[1]+": no such target")
		}
		if m := roomLine.FindStringSubmatch(line); m != nil {
			for _, name := range quoted.FindAllStringSubmatch(m[1], -1) {
				if !isFolder(name[1]) {
					problems = append(problems, "README.md: the room "+name[1]+" is no folder")
				}
			}
		}
	}
	if blocks < 2 || inBlock {
		problems = append(problems, "README.md: no code block, or one that doesn't end")
	}
	return problems
}
