// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"strings"
	"testing"

	"tacit/internal/rules"
)

// smallTree is what the documents of this test can name.
func smallTree(t *testing.T) rules.Index {
	t.Helper()
	files := []rules.File{
		{Path: "node/records/store.go", Text: "package records\n\nimport \"net/netip\"\n\n" +
			"type Store struct{ Heads int; kept map[string]int }\n\nfunc (s *Store) Take() {}\n\nfunc (s *Store) spread() {}\n\n" +
			"func Sign() {}\n\nfunc digest() {}\n\nvar ErrStale, errGone error\n"},
		{Path: "node/inventory/view.go", Text: "package inventory\n\ntype View interface{ Services() }\n"},
		{Path: "bpf/connect.h", Text: "static int find_workload(int n);\nSEC(\"cgroup/connect4\")\nint mesh_connect4(void *c) {}\n"},
		{Path: ".ci/run", Text: "TACIT_BIN=bin\n"},
		{Path: "Makefile"}, {Path: "docs/glossary.md"},
	}
	var goes []rules.Go
	for _, f := range files {
		if f.Is(".go") {
			goes = append(goes, parse(t, f.Path, f.Text))
		}
	}
	return rules.NewIndex(files, goes)
}

func TestDocumentRule(t *testing.T) {
	tree := smallTree(t)
	for span, want := range map[string]string{ // "": no problem
		"node/records/store.go": "", "node/records": "", "node/records/": "", "node/...": "", "bpf/*.h": "", ".ci/run": "",
		"store.go": "", "Makefile": "", "*.h": "", "cgroup/connect4": "", "net/netip": "", "github.com/cilium/ebpf": "",
		"records.Sign": "", "records.Sign()": "", "records.Store": "", "records.Store.Take": "", "records.Store.Heads": "",
		"records.ErrStale": "", "records.digest()": "", "Store.Take": "", "Store.spread()": "", "View.Services": "",
		"inventory.View.Services": "", "netip.Addr": "", "Sign()": "", "spread()": "", "find_workload()": "", "connect(2)": "",
		"node/records.Sign": "", "node/records.Store.Take": "", "Sign(body)": "", "records.Sign(a, b)": "",
		"mesh_connect4": "", "connect4": "", "TACIT_BIN": "", "errGone": "", "View": "",
		"/sys/fs/bpf/tacit": "", "--state-dir": "", "tacit node show": "", "<root>/x": "", "state.db": "", "lo": "", "10.0.0.0/8": "",
		"spiffe://x/svc/db": "", "SYN": "", "make demo": "",

		"node/member.go":        "no such file or folder from the root",
		"node/store.go":         "store.go is at node/records/store.go",
		"nodes/records":         "no such file",
		"records/store.go":      "there is node/records/store.go",
		"node/inventory.Sign":   "node/inventory declares no Sign; Sign is in node/records",
		"bpf/*.c":               "no such file",
		"member.go":             "no folder has this file",
		"cgroup/connect9":       "no such file",
		"records.Sing":          "records declares no Sing",
		"inventory.Sign":        "inventory declares no Sign; Sign is in node/records",
		"member.Sign":           "the module has no package member; Sign is in node/records",
		"records.Store.Give":    "records declares no Store.Give",
		"Store.Give":            "no package has a type Store with Give",
		"records.compile()":     "records declares no compile",
		"compile()":             "no function of this name",
		"mesh_connect6":         "no source file has this word",
		"connect6":              "no source file has this word",
		"TACIT_GONE":            "no source file has this word",
		"inForce":               "no source file has this word",
		"Node":                  "no source file has this word",
		"records.Store.spread2": "records declares no Store.spread2",
	} {
		got := strings.Join(tree.DocumentProblems(rules.File{Path: "docs/x.md", Text: "See `" + span + "`.\n"}), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", span, got, want)
		}
	}
}

// TestDocumentLines: code blocks don't count, nor does a span of two lines, and
// lines are numbered as in the file.
func TestDocumentLines(t *testing.T) {
	text := "one `a\nb` two\n```\n`member.Sign`\n```\n`node/records` and\n`node/x` here\n"
	got := strings.Join(smallTree(t).DocumentProblems(rules.File{Path: "docs/x.md", Text: text}), "\n")
	if want := "docs/x.md:7: `node/x`: no such file or folder from the root of the tree"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestVariableRule(t *testing.T) {
	for text, want := range map[string]string{"`TACIT_BIN`": "", "TACIT_BINARY": "CONTRIBUTING.md: TACIT_BIN is missing: say what it is for"} {
		got := strings.Join(smallTree(t).VariableProblems(rules.File{Path: "CONTRIBUTING.md", Text: text}), "\n")
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
