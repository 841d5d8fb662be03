// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// registry matches the hosts of package registries. Each host is written so
// that the expression doesn't match its own source.
var registry = regexp.MustCompile(`(?i)\b((proxy|sum|index)\.golang\.org|[a-z-]+\.debian\.org|pypi\.org|pythonhosted\.org|` +
	`registry\.npmjs\.org|registry\.yarnpkg\.com|static\.crates\.io|ghcr\.io|quay\.io|docker\.io|gcr\.io)\b`)

// machine matches paths that exist only on the machine of whoever wrote them.
var machine = regexp.MustCompile(`(^|[^\w.~-])/(work|root|home|Users)/[\w.]`)

// PlaceProblems reports names of one machine or of one network.
func PlaceProblems(f File) []string {
	if f.Path == "go.sum" || f.Path == "LICENSE" || strings.Contains(f.Text, "\x00") { // hashes, a licence text, binary files
		return nil
	}
	var problems []string
	n := 0
	for line := range strings.Lines(f.Text) {
		n++
		if m := registry.FindString(line); m != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s: the machine's settings say where packages come from, no file of ours does", f.Path, n, m))
		}
		if m := machine.FindString(line); m != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s…: this path exists on one machine only: use a relative path or a variable", f.Path, n, strings.TrimSpace(m)))
		}
	}
	return problems
}

// ShellProblem reports a shell script whose first command isn't `set -eu`,
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
	return f.Path + ": begin with set -eu: an error that is ignored here shows up somewhere else"
}

var (
	makeLine   = regexp.MustCompile(`^(?:\S*[#$] )?make ([a-z-]+)`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)
	roomLine   = regexp.MustCompile("^\\| ((?:`[a-z/]+`(?:, )?)+) \\|")
	quoted     = regexp.MustCompile("`([a-z/]+)`")
)

// CommandProblems reports each `make` command in a code block that is no target
// of the Makefile, and each room of the table that is no folder.
func CommandProblems(f File, makefile string, isFolder func(string) bool) []string {
	targets := map[string]bool{}
	for _, m := range makeTarget.FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = true
	}
	var problems []string
	inBlock, blocks := false, 0
	for line := range strings.Lines(f.Text) {
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
			blocks++
		}
		if m := makeLine.FindStringSubmatch(line); inBlock && m != nil && !targets[m[1]] {
			problems = append(problems, f.Path+": make "+m[1]+": the Makefile has no such target")
		}
		if m := roomLine.FindStringSubmatch(line); m != nil {
			for _, name := range quoted.FindAllStringSubmatch(m[1], -1) {
				if !isFolder(name[1]) {
					problems = append(problems, f.Path+": the room "+name[1]+" is not a folder")
				}
			}
		}
	}
	if blocks < 2 || inBlock {
		problems = append(problems, f.Path+": it has no code block, or one that is never closed")
	}
	return problems
}
