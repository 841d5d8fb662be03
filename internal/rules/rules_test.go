// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"strings"
	"testing"

	"tacit/internal/rules"
)

// TestRulesFind shows for each rule what it reports and what it accepts.
func TestRulesFind(t *testing.T) {
	const head = "// SPDX-License-Identifier: Apache-2.0\n\n"
	in := func(path, body string) string { return path + "\n" + body }
	imports := func(path, imported string) string {
		return in(path, head+"package x\n\nimport _ \""+imported+"\"\n")
	}
	for _, c := range []struct{ file, want string }{ // "": no problem
		{imports("cmd/tacit/nodes.go", "tacit/node/api"), ""},
		{imports("cmd/tacit/nodes.go", "tacit/node"), "the CLI talks"},
		{imports("bpf/maps.go", "tacit/identity"), "knows numbers, not names"},
		{imports("policy/table.go", "tacit/bpf"), "policy decides by names"},
		{imports("policy/kernel/x.go", "tacit/bpf"), ""},
		{imports("policy/ledger/x.go", "tacit/policy/kernel"), "simulate"},
		{imports("redirect/x.go", "tacit/redirect/sockdiag"), ""},
		{imports("redirect/x.go", "tacit/bpf"), "a plan that its caller made"},
		{imports("redirect/links/x.go", "tacit/redirect"), "links reads"},
		{imports("redirect/sockdiag/x.go", "tacit/bpf"), "sockdiag asks"},
		{imports("redirect/listen/x.go", "tacit/redirect"), "listen opens sockets"},
		{imports("node/node.go", "tacit/policy/kernel"), ""},
		{imports("node/node.go", "tacit/node/inventory/sessions"), ""},
		{imports("node/dns/x.go", "tacit/node/catalog"), "a Zone"},
		{imports("node/reconcile/x.go", "tacit/node/inventory"), ""},
		{imports("node/reconcile/x.go", "tacit/node/datapath"), "behind interfaces"},
		{imports("node/inventory/x.go", "tacit/node/records"), "elsewhere"},
		{imports("node/control/x.go", "tacit/node/inventory/sessions"), ""},
		{imports("node/control/x.go", "tacit/node"), "imports no node"},
		{imports("node/shed/x.go", "tacit/policy"), "no line in the tables"},
		{imports("shed/x.go", "tacit/policy"), "no line in the tables"},
		{imports("tproxy/x.go", "tacit/internal/testhost"), "the proxy asks"},
		{imports("tproxy/x_test.go", "tacit/internal/testhost"), ""},
		{imports("tproxy/x_test.go", "tacit/tproxy"), ""},
		{imports("tproxy/x_test.go", "tacit/node"), "the proxy asks"},
		{imports("internal/soak/x_test.go", "tacit/policy"), "import no product package"},
		{imports("node/gossip/pool.go", "github.com/hashicorp/memberlist"), ""},
		{imports("node/node.go", "github.com/hashicorp/memberlist"), "belongs to node/gossip"},
		{imports("policy/kernel/x.go", "github.com/cilium/ebpf/link"), "belongs to bpf"},
		{imports("node/x.go", "example.org/new"), "a new dependency"},
		{imports("node/x.go", "net/netip"), ""},
		{imports("node/x.go", "golang.org/x/sys/unix"), ""},

		{in("x/x.go", "package x\n"), "no licence"},
		{in("bpf/mesh.c", "//go:build ignore\n"+head), ""},
		{in("bpf/mesh_bpfel.go", "package bpf\n\nvar x = new(int)\n"), ""},
		{in("x/x.go", head+strings.Repeat("\n", 398)+"package x\n"), "split it"},
		{in("x/x_test.go", head+"package x\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"), "sleeps"},
		{in("x/x.go", head+"package x\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"), ""},
		{in("x/x_test.go", head+"package x\n\nfunc f() { t.Skipf(\"no\") }\n"), "looks like one that passed"},
		{in("x/x.go", head+"package x\n\nfunc init() {}\n"), "runs when the package is imported"},
		{in("x/x.go", head+"package x\n\nvar m = map[string]int{\"a\": 1}\n"), ""},
		{in("x/x.go", head+"package x\n\nvar m = map[string]int{}\n\nfunc f() { m[\"a\"]++ }\n"), "written here"},
		{in("x/x.go", head+"package x\n\nvar m map[string]int\n\nfunc f() { delete(m, \"a\") }\n"), "written here"},
		{in("x/x.go", head+"package x\n\nvar a, b = 1, &T{}\n"), "b is shared"},
		{in("x/x.go", head+"package x\n\nvar c = make(chan int)\n"), "c is shared"},
		{in("x/x.go", head+"package x\n\nvar _ I = (*T)(nil)\n\nvar err = errors.New(\"x\")\n"), ""},

		{in("run.sh", "#!/bin/sh\n# why\n\nset -eu\n"), ""},
		{in("run.sh", "#!/bin/sh\necho\nset -eu\n"), "begin with set -eu"},
		{in("bench/x.sh", "start() { :; }\n"), "begin with set -eu"},
		{in(".ci/run", "#!/usr/bin/env bash\nset -euo pipefail\n"), ""},
		{in(".ci/run", "#!/usr/bin/env bash\nmake\n"), "begin with set -eu"},
		{in("x.py", "#!/usr/bin/env python3\nprint()\n"), ""},
		{in("x.md", "see /ro"+"ot/x"), "on one machine only"},
		{in("x.md", "see /proc/root/x and https://a.example/home/x"), ""},
		{in("x.md", "GOPROXY=https://proxy.golang"+".org"), "machine's settings"},
	} {
		path, body, _ := strings.Cut(c.file, "\n")
		got := strings.Join(problems(t, rules.File{Path: path, Text: body}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.file, got, c.want)
		}
	}
}

// problems is what the rules for one file report.
func problems(t *testing.T, f rules.File) []string {
	t.Helper()
	var all []string
	for _, p := range []string{rules.LicenceProblem(f), rules.LengthProblem(f), rules.ShellProblem(f)} {
		if p != "" {
			all = append(all, p)
		}
	}
	all = append(all, rules.PlaceProblems(f)...)
	if !f.Is(".go") {
		return all
	}
	g, err := rules.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, rules.ImportProblems(g)...)
	all = append(all, rules.CallProblems(g)...)
	return append(all, rules.GlobalProblems([]rules.Go{g})...)
}

func TestOnePackageComment(t *testing.T) {
	with, without := parse(t, "x/a.go", "// Package x is.\npackage x\n"), parse(t, "x/b.go", "// licence\n\npackage x\n")
	test := parse(t, "x/a_test.go", "// Package x is.\npackage x\n")
	for _, c := range []struct {
		files []rules.Go
		want  string
	}{
		{[]rules.Go{with, without}, ""},
		{[]rules.Go{with, test}, ""},
		{[]rules.Go{test}, ""},
		{[]rules.Go{without, test}, "no package comment"},
		{[]rules.Go{with, with}, "more than one"},
	} {
		if got := strings.Join(rules.CommentProblems("x", c.files), ""); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestCommandRule(t *testing.T) {
	const readme = "```\nmake demo   # three hosts\nhost1# make fly\n```\n| `node`, `barn` | is for |\n"
	got := strings.Join(rules.CommandProblems(rules.File{Path: "README.md", Text: readme}, "demo: build\n", func(name string) bool { return name == "node" }), "\n")
	if want := "README.md: make fly: the Makefile has no such target\nREADME.md: the room barn is not a folder"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
