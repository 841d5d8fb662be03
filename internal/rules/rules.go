// SPDX-License-Identifier: Apache-2.0

// Package rules holds the tests that guard the tree: who may import whom and
// why not, and the habits of every file. It must not hold product code, and
// each rule is a function of text, so that the tests can show it to work.
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

// Root is the folder with go.mod, here or above.
func Root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod here or above")
		}
	}
	return "", err
}

// Tree reads every file below root but git's own and what the build makes.
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
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		files = append(files, File{filepath.ToSlash(rel), string(text)})
		return err
	})
	return files, err
}

// IsTest says whether only tests see the file: test files, and the packages
// that only tests import.
func (f File) IsTest() bool {
	return strings.HasSuffix(f.Path, "_test.go") || strings.HasPrefix(f.Path, "internal/")
}

// Generated says whether a tool wrote the file.
func (f File) Generated() bool { return strings.HasSuffix(f.Path, "_bpfel.go") }

// Is says whether the file's name ends in one of the endings.
func (f File) Is(endings ...string) bool { return slices.Contains(endings, path.Ext(f.Path)) }

// Package is the file's folder, which is its package's path in the module.
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

// At is a problem at a place of the file.
func (g Go) At(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s: %s", g.Fset.Position(n.Pos()), fmt.Sprintf(format, args...))
}

// Imports are the import paths with the node that names each.
func (g Go) Imports() map[string]ast.Node {
	paths := map[string]ast.Node{}
	for _, spec := range g.Syntax.Imports {
		paths[strings.Trim(spec.Path.Value, `"`)] = spec
	}
	return paths
}
