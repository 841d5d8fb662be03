// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"tacit/internal/rules"
)

// parse parses one Go file, whose text needs no licence.
func parse(t *testing.T, path, text string) rules.Go {
	t.Helper()
	g, err := rules.Parse(rules.File{Path: path, Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// list is n lines like "F1 int".
func list(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

func TestSizeRule(t *testing.T) {
	structOf := func(body string) string { return "package x\n\ntype T struct {\n" + body + "}\n" }
	interfaceOf := func(body string) string { return "package x\n\ntype I interface {\n" + body + "}\n" }
	lines := "package x\n" + strings.Repeat("\n", 2000)
	for name, c := range map[string]struct {
		path, text string
		exceptions map[string]string
		want       string // "": no problem
	}{
		"2,000 lines":                  {path: "x/x.go", text: lines[:len(lines)-1]},
		"2,001 lines":                  {path: "x/x.go", text: lines, want: "x: x has 2001 lines, more than 2000"},
		"test files don't count":       {path: "x/x_test.go", text: lines},
		"nor do helpers of tests":      {path: "internal/x/x.go", text: lines},
		"nor do generated files":       {path: "x/x_bpfel.go", text: lines + structOf(list(21, "F%d int"))[len("package x\n"):]},
		"20 fields":                    {path: "x/x.go", text: structOf(list(20, "F%d int"))},
		"21 fields":                    {path: "x/x.go", text: structOf(list(21, "F%d int")), want: "x/x.go:3:6: x.T has 21 fields, more than 20"},
		"several names in a line":      {path: "x/x.go", text: structOf(list(11, "F%[1]d, G%[1]d int")), want: "22 fields"},
		"an embedded type is one":      {path: "x/x.go", text: structOf(list(20, "F%d int") + "io.Reader\n"), want: "21 fields"},
		"padding is none":              {path: "x/x.go", text: structOf(list(20, "F%d int") + "_ [4]byte\n")},
		"a struct inside":              {path: "x/x.go", text: structOf("In struct {\n" + list(21, "F%d int") + "}\n"), want: "21 fields"},
		"12 methods":                   {path: "x/x.go", text: interfaceOf(list(12, "M%d()"))},
		"13 methods":                   {path: "x/x.go", text: interfaceOf(list(13, "M%d()")), want: "x.I has 13 methods, more than 12"},
		"an embedded interface, ours":  {path: "x/x.go", text: interfaceOf(list(10, "M%d()")+"J\n") + "\ntype J interface { M1(); N1(); N2(); N3() }\n", want: "13 methods"},
		"an embedded interface, other": {path: "x/x.go", text: interfaceOf(list(12, "M%d()") + "io.Reader\n"), want: "13 methods"},
		"an interface that's a union":  {path: "x/x.go", text: interfaceOf("~int | ~string\n")},
		"an exception":                 {path: "x/x.go", text: structOf(list(21, "F%d int")), exceptions: map[string]string{"x.T": "a wire format"}},
		"an exception without reason":  {path: "x/x.go", text: structOf(list(21, "F%d int")), exceptions: map[string]string{"x.T": ""}, want: "21 fields"},
		"an exception that is stale":   {path: "x/x.go", text: structOf("F int\n"), exceptions: map[string]string{"x.T": "a wire format"}, want: "x.T: the exception isn't needed"},
		"an exception for nothing":     {path: "x/x.go", text: "package x\n", exceptions: map[string]string{"y": "large"}, want: "y: the exception isn't needed"},
	} {
		g := parse(t, c.path, c.text)
		got := strings.Join(rules.SizeProblems(map[string][]rules.Go{g.Package(): {g}}, c.exceptions), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
