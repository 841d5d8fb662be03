// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/internal/rules"
)

// tree is the source tree, parsed.
type tree struct {
	root  string
	files []rules.File
	goes  []rules.Go
	pkgs  map[string][]rules.Go
}

func read(t *testing.T) tree {
	t.Helper()
	root, err := rules.Root()
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{root: root, pkgs: map[string][]rules.Go{}}
	if tr.files, err = rules.Tree(root); err != nil {
		t.Fatal(err)
	}
	for _, f := range tr.files {
		if !f.Is(".go") {
			continue
		}
		g, err := rules.Parse(f)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		tr.goes = append(tr.goes, g)
		tr.pkgs[f.Package()] = append(tr.pkgs[f.Package()], g)
	}
	return tr
}

func report(t *testing.T, problems ...string) {
	t.Helper()
	for _, p := range problems {
		if p != "" {
			t.Error(p)
		}
	}
}

// TestImports keeps the imports equal to what docs/architecture.md says.
func TestImports(t *testing.T) {
	for _, f := range read(t).goes {
		report(t, rules.ImportProblems(f)...)
	}
}

func TestEveryFile(t *testing.T) {
	for _, f := range read(t).files {
		report(t, rules.LicenceProblem(f), rules.LengthProblem(f), rules.ShellProblem(f))
		report(t, rules.PlaceProblems(f)...)
	}
}

func TestEveryPackage(t *testing.T) {
	tr := read(t)
	for _, f := range tr.goes {
		report(t, rules.CallProblems(f)...)
	}
	for pkg, files := range tr.pkgs {
		report(t, rules.CommentProblems(pkg, files)...)
		report(t, rules.GlobalProblems(files)...)
	}
}

// tooLarge lists what may be larger than internal/rules/size.go allows, each
// with the reason: a package by its folder, a type by folder and name.
func tooLarge() map[string]string {
	return nil
}

func TestSizes(t *testing.T) { report(t, rules.SizeProblems(read(t).pkgs, tooLarge())...) }

// TestCommands checks that the make targets and rooms that the documents for
// newcomers name exist.
func TestCommands(t *testing.T) {
	tr := read(t)
	text := map[string]string{}
	for _, f := range tr.files {
		text[f.Path] = f.Text
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		report(t, rules.CommandProblems(rules.File{Path: name, Text: text[name]}, text["Makefile"], func(name string) bool {
			info, err := os.Stat(filepath.Join(tr.root, name))
			return err == nil && info.IsDir()
		})...)
	}
	if !strings.HasPrefix(text["go.mod"], "module tacit\n") {
		t.Error("go.mod: the module must be named tacit")
	}
	if !strings.Contains(text["LICENSE"], "Apache License") {
		t.Error("LICENSE: this is not the text of Apache-2.0")
	}
}

func TestDecisions(t *testing.T) {
	var records []rules.File
	for _, f := range read(t).files {
		if f.Package() == "docs/decisions" {
			records = append(records, f)
		}
	}
	report(t, rules.DecisionProblems(records)...)
}

// TestDocuments checks that what the documents name exists; see DocumentProblems
// for how they name it.
func TestDocuments(t *testing.T) {
	tr := read(t)
	index := rules.NewIndex(tr.files, tr.goes)
	documents := []string{"CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md", "docs/security.md"}
	for _, f := range tr.files {
		if slices.Contains(documents, f.Path) {
			report(t, index.DocumentProblems(f)...)
			if f.Path == "CONTRIBUTING.md" {
				report(t, index.VariableProblems(f)...)
			}
			documents = slices.DeleteFunc(documents, func(path string) bool { return path == f.Path })
		}
	}
	if len(documents) > 0 {
		t.Error("missing: ", documents)
	}
}
