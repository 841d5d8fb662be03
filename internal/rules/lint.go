// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// maxLines is the most lines a hand-written file may have.
const maxLines = 400

// LicenceProblem reports a Go or C file without a licence in its first three lines.
func LicenceProblem(f File) string {
	if !f.Is(".go", ".c", ".h") || f.Generated() {
		return ""
	}
	lines := strings.SplitN(f.Text, "\n", 4)
	for _, line := range lines[:min(3, len(lines))] {
		if strings.Contains(line, "SPDX-License-Identifier: Apache-2.0") {
			return ""
		}
	}
	return f.Path + ": no licence: begin with // SPDX-License-Identifier: Apache-2.0"
}

// LengthProblem reports files that are too long to read in one sitting.
func LengthProblem(f File) string {
	if n := strings.Count(f.Text, "\n"); f.Is(".go", ".c", ".h", ".sh") && !f.Generated() && n > maxLines {
		return fmt.Sprintf("%s: %d lines, more than %d: split it into two files", f.Path, n, maxLines)
	}
	return ""
}

// CallProblems reports init functions, and tests that sleep or skip.
func CallProblems(f Go) []string {
	var problems []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				problems = append(problems, f.At(n, "init runs when the package is imported: write a function that the caller calls"))
			}
		case *ast.SelectorExpr:
			if why := selectorProblem(n); why != "" && f.IsTest() {
				problems = append(problems, f.At(n, "%s", why))
			}
		}
		return true
	})
	return problems
}

func selectorProblem(n *ast.SelectorExpr) string {
	of, _ := n.X.(*ast.Ident)
	switch {
	case n.Sel.Name == "Sleep" && of != nil && of.Name == "time":
		return "a test that sleeps is slow or flaky: wait for a condition with a deadline (testhost.Eventually)"
	case slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name) && of != nil && len(of.Name) <= 2:
		return "a skipped test looks like one that passed: make it run, or delete it"
	}
	return ""
}

// CommentProblems reports a package that doesn't have exactly one package
// comment. Test files count only in packages without other files.
func CommentProblems(pkg string, files []Go) []string {
	product := slices.DeleteFunc(slices.Clone(files), func(f Go) bool { return strings.HasSuffix(f.Path, "_test.go") })
	if len(product) > 0 {
		files = product
	}
	var with []string
	for _, f := range files {
		if f.Syntax.Doc.Text() != "" {
			with = append(with, f.Path)
		}
	}
	switch len(with) {
	case 0:
		return []string{pkg + ": no package comment: say what the package is for and what it must not do"}
	case 1:
		return nil
	}
	return []string{pkg + ": more than one package comment: " + strings.Join(with, ", ")}
}

// GlobalProblems reports package variables that can change: pointers, channels,
// and every variable that the package's own code assigns to, adds to or deletes
// from. Tables that nobody writes to, and errors, are allowed.
func GlobalProblems(files []Go) []string {
	globals := map[string]bool{}
	var problems []string
	for _, f := range files {
		if f.IsTest() || f.Generated() {
			continue
		}
		for _, spec := range packageVars(f) {
			for i, name := range spec.Names {
				if name.Name == "_" { // asserts that a type implements an interface
					continue
				}
				globals[name.Name] = true
				if shared(spec, i) {
					problems = append(problems, f.At(name, "%s is shared by everything that imports this package: make it a field", name.Name))
				}
			}
		}
	}
	for _, f := range files {
		if !f.IsTest() {
			problems = append(problems, writes(f, globals)...)
		}
	}
	return problems
}

func packageVars(f Go) []*ast.ValueSpec {
	var specs []*ast.ValueSpec
	for _, decl := range f.Syntax.Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, s := range d.Specs {
				specs = append(specs, s.(*ast.ValueSpec))
			}
		}
	}
	return specs
}

// shared says whether the declaration of variable i of a spec makes it a
// pointer or a channel.
func shared(spec *ast.ValueSpec, i int) bool {
	switch spec.Type.(type) {
	case *ast.StarExpr, *ast.ChanType:
		return true
	}
	if i >= len(spec.Values) {
		return false
	}
	switch v := spec.Values[i].(type) {
	case *ast.UnaryExpr:
		return v.Op == token.AND
	case *ast.CallExpr:
		fn, ok := v.Fun.(*ast.Ident)
		return ok && (fn.Name == "new" || fn.Name == "make")
	}
	return false
}

// writes finds assignments to globals and to locals of the same name.
func writes(f Go, globals map[string]bool) []string {
	var problems []string
	check := func(target ast.Expr) {
		if name := written(target); globals[name] {
			problems = append(problems, f.At(target, "%s is a package variable (or has the name of one) and is written here: make it a field", name))
		}
	}
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, target := range n.Lhs {
				if n.Tok != token.DEFINE {
					check(target)
				}
			}
		case *ast.IncDecStmt:
			check(n.X)
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && (fn.Name == "delete" || fn.Name == "clear") && len(n.Args) > 0 {
				check(n.Args[0])
			}
		}
		return true
	})
	return problems
}

// written is the name of the variable x that an assignment to x, x[i], x.f or
// *x changes; "" for other expressions.
func written(target ast.Expr) string {
	for {
		switch t := target.(type) {
		case *ast.Ident:
			return t.Name
		case *ast.IndexExpr:
			target = t.X
		case *ast.SelectorExpr:
			target = t.X
		case *ast.StarExpr:
			target = t.X
		case *ast.ParenExpr:
			target = t.X
		default:
			return ""
		}
	}
}
