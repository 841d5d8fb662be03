// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
)

// What a reader can keep in mind. Test files and generated files don't count.
const (
	maxPackageLines = 2000
	maxFields       = 20 // of a struct; an embedded type is one, blank fields are none
	maxMethods      = 12 // of an interface, embedded interfaces of its package included
)

// size is how large something is, and how large it may be.
type size struct {
	at     string // position, or the package
	n, max int
	what   string // what n counts
	advice string
}

// SizeProblems reports packages, structs and interfaces that are too large.
// Exceptions are keyed by the package's folder ("node"), or by folder and type
// ("node.Config"), and give a reason. An exception that isn't needed, or has no
// reason, is a problem itself.
func SizeProblems(pkgs map[string][]Go, exceptions map[string]string) []string {
	var problems []string
	needed := map[string]bool{}
	for _, pkg := range slices.Sorted(maps.Keys(pkgs)) {
		sizes := packageSizes(pkg, pkgs[pkg])
		for _, name := range slices.Sorted(maps.Keys(sizes)) {
			s := sizes[name]
			if s.n <= s.max {
				continue
			}
			needed[name] = true
			if exceptions[name] == "" {
				problems = append(problems, fmt.Sprintf("%s: %s has %d %s, more than %d: %s", s.at, name, s.n, s.what, s.max, s.advice))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exceptions)) {
		if !needed[name] {
			problems = append(problems, name+": the exception isn't needed (any more): remove it from the list")
		}
	}
	return problems
}

// packageSizes is the size of a package and of each of its types, by name.
func packageSizes(pkg string, files []Go) map[string]size {
	files = slices.DeleteFunc(slices.Clone(files), func(f Go) bool { return f.IsTest() || f.Generated() })
	sizes := map[string]size{}
	lines := 0
	for _, f := range files {
		lines += strings.Count(f.Text, "\n")
	}
	sizes[pkg] = size{pkg, lines, maxPackageLines, "lines", "move what has a purpose of its own into another package"}
	interfaces := interfacesOf(files)
	for _, f := range files {
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			at, name := f.Fset.Position(spec.Pos()).String(), pkg+"."+spec.Name.Name
			if n := largestStruct(spec.Type); n > 0 {
				sizes[name] = size{at, n, maxFields, "fields", "group the fields that belong together"}
			}
			if i, ok := spec.Type.(*ast.InterfaceType); ok {
				n := len(methods(i, interfaces, map[string]bool{}))
				sizes[name] = size{at, n, maxMethods, "methods", "let each caller declare the methods that it uses"}
			}
			return true
		})
	}
	return sizes
}

func interfacesOf(files []Go) map[string]*ast.InterfaceType {
	interfaces := map[string]*ast.InterfaceType{}
	for _, f := range files {
		for _, decl := range f.Syntax.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				continue
			}
			for _, s := range d.Specs {
				spec := s.(*ast.TypeSpec)
				if i, ok := spec.Type.(*ast.InterfaceType); ok {
					interfaces[spec.Name.Name] = i
				}
			}
		}
	}
	return interfaces
}

// largestStruct is the number of fields of a type's largest struct: the type
// itself, or a struct without a name inside it.
func largestStruct(t ast.Expr) int {
	largest := 0
	ast.Inspect(t, func(n ast.Node) bool {
		if s, ok := n.(*ast.StructType); ok {
			largest = max(largest, fields(s))
		}
		return true
	})
	return largest
}

func fields(s *ast.StructType) int {
	n := 0
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 { // embedded
			n++
		}
		for _, name := range f.Names {
			if name.Name != "_" {
				n++
			}
		}
	}
	return n
}

// methods are the names of an interface's methods. An embedded interface of
// another package counts as one.
func methods(i *ast.InterfaceType, interfaces map[string]*ast.InterfaceType, seen map[string]bool) map[string]bool {
	names := map[string]bool{}
	for _, m := range i.Methods.List {
		for _, name := range m.Names {
			names[name.Name] = true
		}
		switch t := m.Type.(type) {
		case *ast.Ident:
			if embedded := interfaces[t.Name]; embedded != nil && !seen[t.Name] {
				seen[t.Name] = true
				maps.Copy(names, methods(embedded, interfaces, seen))
			}
		case *ast.SelectorExpr:
			names[t.Sel.Name+" (embedded)"] = true
		}
	}
	return names
}
