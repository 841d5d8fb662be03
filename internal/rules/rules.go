// SPDX-License-Identifier: Apache-2.0

// Package rules checks the source tree: which package may import which, how
// large files, packages, structs and interfaces may become, what every file has
// in common, and whether documents name things that exist. It must not hold
// product code. Each rule is a function of text, so that a test can show that
// the rule reports what it should.
package rules

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// File is one file of the tree.
type File struct {
	Path string // slashes, relative to the root
	Text string
}

// Root is the nearest folder with a go.mod, from the working directory up.
func Root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod in this folder or above it")
		}
	}
	return "", err
}

// Tree reads every file below root except those in .git and bin.
func Tree(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == ".git" || rel == "bin") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || rel == ".git" { // .git is a file in a linked worktree
			return nil
		}
		text, err := os.ReadFile(name)
		files = append(files, File{filepath.ToSlash(rel), string(text)})
		return err
	})
	return files, err
}

// IsTest says whether the file is a test file or in a package that only tests
// import.
func (f File) IsTest() bool {
	return strings.HasSuffix(f.Path, "_test.go") || strings.HasPrefix(f.Path, "internal/")
}

// Generated says whether a tool wrote the file.
func (f File) Generated() bool { return strings.HasSuffix(f.Path, "_bpfel.go") }

// Is says whether the file's name ends in one of the endings.
func (f File) Is(endings ...string) bool { return slices.Contains(endings, path.Ext(f.Path)) }

// Package is the file's folder, which is the path of its package in the module.
func (f File) Package() string { return path.Dir(f.Path) }

// Go is a parsed Go file.
type Go struct {
	File
	Fset   *token.FileSet
	Syntax *ast.File
}

// Parse parses a Go file.
func Parse(f File) (Go, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, f.Path, f.Text, parser.ParseComments|parser.SkipObjectResolution)
	return Go{f, fset, syntax}, err
}

// At formats a problem with the position of a node.
func (g Go) At(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s: %s", g.Fset.Position(n.Pos()), fmt.Sprintf(format, args...))
}

// Imports are the import paths, each with its import spec.
func (g Go) Imports() map[string]ast.Node {
	paths := map[string]ast.Node{}
	for _, spec := range g.Syntax.Imports {
		paths[strings.Trim(spec.Path.Value, `"`)] = spec
	}
	return paths
}
