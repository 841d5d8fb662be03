// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Index is what documents can name: files, declarations and words of the tree.
type Index struct {
	paths    map[string]bool     // files and folders
	bases    map[string][]string // files by base name
	packages map[string]bool     // last element of each package's path
	imported map[string]bool     // imports from outside the module: whole paths, and last elements
	names    map[string][]string // "Sign", "Store.Take": the packages that declare it
	cNames   map[string]bool     // functions and macros that C files define or call
	words    map[string]bool     // words of source files, strings and comments included
}

var (
	word  = regexp.MustCompile(`\w+`)
	cCall = regexp.MustCompile(`(\w+)\(`)
)

// NewIndex indexes the tree.
func NewIndex(files []File, goes []Go) Index {
	x := Index{paths: map[string]bool{}, bases: map[string][]string{}, packages: map[string]bool{}, imported: map[string]bool{},
		names: map[string][]string{}, cNames: map[string]bool{}, words: map[string]bool{}}
	for _, f := range files {
		x.addFile(f)
	}
	for _, g := range goes {
		x.packages[path.Base(g.Package())] = true
		for imported := range g.Imports() {
			if !strings.HasPrefix(imported, "tacit/") {
				x.imported[imported], x.imported[path.Base(imported)] = true, true
			}
		}
		for _, name := range declared(g) {
			if !slices.Contains(x.names[name], g.Package()) {
				x.names[name] = append(x.names[name], g.Package())
			}
		}
	}
	return x
}

func (x Index) addFile(f File) {
	for dir := f.Path; dir != "."; dir = path.Dir(dir) {
		x.paths[dir] = true
	}
	x.bases[path.Base(f.Path)] = append(x.bases[path.Base(f.Path)], f.Path)
	if f.Is(".c", ".h") {
		for _, m := range cCall.FindAllStringSubmatch(f.Text, -1) {
			x.cNames[m[1]] = true
		}
	}
	if f.isSource() {
		for _, w := range word.FindAllString(f.Text, -1) {
			x.words[w] = true
		}
	}
}

// isSource says whether the words of a file are those of the program; the rules
// and their tests only give examples.
func (f File) isSource() bool {
	return f.Package() != "internal/rules" && f.Is(".go", ".c", ".h", ".sh") || f.Path == "Makefile" || f.Path == ".ci/run"
}

// declared are a file's top-level names, and "Type.Member" for methods and for
// the fields and methods that a type's declaration lists.
func declared(g Go) []string {
	var names []string
	for _, decl := range g.Syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(append(names, s.Name.Name), members(s)...)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func receiver(t ast.Expr) string {
	for {
		switch r := t.(type) {
		case *ast.StarExpr:
			t = r.X
		case *ast.IndexExpr:
			t = r.X
		case *ast.IndexListExpr:
			t = r.X
		case *ast.Ident:
			return r.Name
		default:
			return ""
		}
	}
}

func members(s *ast.TypeSpec) []string {
	var list *ast.FieldList
	switch t := s.Type.(type) {
	case *ast.StructType:
		list = t.Fields
	case *ast.InterfaceType:
		list = t.Methods
	default:
		return nil
	}
	var names []string
	for _, f := range list.List {
		for _, name := range f.Names {
			names = append(names, s.Name.Name+"."+name.Name)
		}
	}
	return names
}

var (
	fence     = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	pathLike  = regexp.MustCompile(`^\.?[\w*-][\w.*-]*(/[\w.*-]+)+/?$`)
	fileLike  = regexp.MustCompile(`^[\w*-][\w.*-]*\.(go|c|h|sh|md)$`)
	located   = regexp.MustCompile(`^(\w+(?:/\w+)+)\.([A-Z]\w*(?:\.\w+)?)(\((?:[A-Za-z_][^)]*)?\))?$`)
	qualified = regexp.MustCompile(`^([A-Za-z]\w*)\.([A-Za-z]\w*)(?:\.([A-Za-z]\w*))?(\((?:[A-Za-z_][^)]*)?\))?$`)
	call      = regexp.MustCompile(`^([A-Za-z]\w*)\((?:[A-Za-z_][^)]*)?\)$`)
	telling   = regexp.MustCompile(`^(\w+_\w*|[a-z]+\d+|[a-z]+[A-Z]\w*|[A-Z]\w*[a-z]\w*)$`)
)

// DocumentProblems reports code spans of a document that name something that
// the tree doesn't have. The convention for a span, `…` outside code blocks:
//
//   - `bpf/connect.h`, `node/records`, `policy/...`, `bpf/*.h`: a file or folder,
//     from the root, or a pattern that matches one. The section of a kernel
//     program (`cgroup/connect4`) is allowed as well. `connect.h` alone, with the
//     ending go, c, h, sh or md, is a file in some folder.
//   - `records.Sign`, `inventory.View`, `records.Store.Take`: a name of a package,
//     which is given by the last element of its path or by its whole path
//     (`node/records.Sign`), or a method or field of one of its types. Names that
//     aren't exported take (): `reconcile.compile()`.
//   - `Store.Take`: a method or field of a type in any package; `store.take()`
//     where type or member isn't exported.
//   - `Compile()`, `find_workload()`: a function or method in Go, or a function in C.
//     System calls are written as in the manual: `connect(2)`.
//     All functions may have arguments: `Sign(body)`.
//   - `sock_create`, `TACIT_BIN`, `connect4`, `inForce`, `View`: a word with an
//     underscore, a digit at its end, or an upper-case and a lower-case letter
//     occurs in some Go, C or shell file or the Makefile.
//
// Everything else isn't checked: commands and flags (spaces, --), absolute paths,
// plain words in one case, addresses, imported packages outside the module and
// their names (`net/netip`, `net.Conn`), lower-case names with a dot and without () (`state.db`).
func (x Index) DocumentProblems(f File) []string {
	text := fence.ReplaceAllStringFunc(f.Text, func(block string) string { // keeps line numbers
		return strings.Repeat("\n", strings.Count(block, "\n"))
	})
	var problems []string
	for _, at := range codeSpan.FindAllStringSubmatchIndex(text, -1) {
		span := text[at[2]:at[3]]
		if why := x.spanProblem(span); why != "" {
			line := 1 + strings.Count(text[:at[0]], "\n")
			problems = append(problems, fmt.Sprintf("%s:%d: `%s`: %s", f.Path, line, span, why))
		}
	}
	return problems
}

// VariableProblems reports the environment variables of ours (TACIT_…) that the
// tree reads or sets and the document doesn't name.
func (x Index) VariableProblems(f File) []string {
	var problems []string
	for _, w := range slices.Sorted(maps.Keys(x.words)) {
		if strings.HasPrefix(w, "TACIT_") && !strings.Contains(f.Text, "`"+w+"`") {
			problems = append(problems, f.Path+": "+w+" is missing: say what it is for")
		}
	}
	return problems
}

func (x Index) spanProblem(span string) string {
	switch {
	case located.MatchString(span):
		m := located.FindStringSubmatch(span)
		return x.locatedProblem(m[1], m[2])
	case pathLike.MatchString(span):
		return x.pathProblem(strings.TrimSuffix(strings.TrimSuffix(span, "/"), "/..."))
	case fileLike.MatchString(span):
		return x.fileProblem(span)
	case qualified.MatchString(span):
		m := qualified.FindStringSubmatch(span)
		return x.qualifiedProblem(m[1], m[2], m[3], m[4] != "")
	case call.MatchString(span):
		return x.callProblem(call.FindStringSubmatch(span)[1])
	case telling.MatchString(span) && !x.words[span] && !x.paths[span]:
		return "no source file has this word"
	}
	return ""
}

func (x Index) pathProblem(p string) string {
	if x.paths[p] || x.imported[p] || x.isSection(p) || strings.Contains(strings.SplitN(p, "/", 2)[0], ".") && !strings.HasPrefix(p, ".") {
		return ""
	}
	for have := range x.paths {
		if ok, err := path.Match(p, have); ok && err == nil {
			return ""
		}
	}
	for have := range x.paths {
		if strings.HasSuffix(have, "/"+p) {
			return "paths begin at the root of the tree; there is " + have
		}
	}
	if at := x.bases[path.Base(p)]; len(at) > 0 {
		return "no such file or folder; " + path.Base(p) + " is at " + strings.Join(at, ", ")
	}
	return "no such file or folder from the root of the tree"
}

func (x Index) locatedProblem(folder, name string) string {
	if slices.Contains(x.names[name], folder) {
		return ""
	}
	return folder + " declares no " + name + x.elsewhere(name)
}

// isSection says whether the parts of a path are words of a program's section
// rather than folders.
func (x Index) isSection(p string) bool {
	kind, hook, _ := strings.Cut(p, "/")
	return slices.Contains([]string{"cgroup", "cgroup_skb", "iter", "netfilter", "sk_lookup"}, kind) && x.words[hook]
}

func (x Index) fileProblem(base string) string {
	for have := range x.bases {
		if ok, err := path.Match(base, have); ok && err == nil {
			return ""
		}
	}
	return "no folder has this file"
}

// qualifiedProblem checks a.b or a.b.c, where a is a package or a type.
func (x Index) qualifiedProblem(a, b, c string, called bool) string {
	exported := strings.ToLower(b[:1]) != b[:1]
	isType := strings.ToLower(a[:1]) != a[:1]
	member := strings.TrimSuffix(b+"."+c, ".")
	switch {
	case !isType && !exported && !called: // a file or a host name
		return ""
	case x.inPackage(a, member), c == "" && (isType || called) && len(x.names[a+"."+b]) > 0:
		return ""
	case !isType && !x.packages[a] && x.imported[a]:
		return ""
	case !isType && !x.packages[a] && !(called && c == ""):
		return "the module has no package " + a + x.elsewhere(member)
	case isType:
		return "no package has a type " + a + " with " + b + x.elsewhere(b)
	}
	return a + " declares no " + member + x.elsewhere(member)
}

func (x Index) inPackage(name, member string) bool {
	return slices.ContainsFunc(x.names[member], func(pkg string) bool { return path.Base(pkg) == name })
}

// elsewhere is a hint: the packages that declare a name, or its last part.
func (x Index) elsewhere(name string) string {
	if in := x.names[name]; len(in) > 0 {
		return "; " + name + " is in " + strings.Join(in, ", ")
	}
	return ""
}

func (x Index) callProblem(name string) string {
	for full := range x.names {
		if full == name || strings.HasSuffix(full, "."+name) {
			return ""
		}
	}
	if x.cNames[name] {
		return ""
	}
	return "the tree has no function of this name; a system call is written " + name + "(2)"
}
