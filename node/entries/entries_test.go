// SPDX-License-Identifier: Apache-2.0

package entries_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/node/entries"
)

// TestForms: every form in which intentions may be written, and what of it is left out.
func TestForms(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"blocks", "a.hcl", `intention { source = "Web" destination = "*" action = "Allow" }
intention { source = "api", destination = "db", action = "deny", description = "no" }`, "allow web > * at 1; deny api > db at 2 no"},
		{"a list", "a.json", `{"intentions": [{"source": "a", "destination": "b", "action": "deny", "description": null}]}`, "deny a > b at 1"},
		{"snake case", "a.json", `{"kind": "service-intentions", "name": "db", "meta": {"x": "y"}, "modify_index": 3, "sources": [
{"name": "*", "action": "allow", "precedence": 8, "legacy_id": "", "namespace": "default"}]}`, "allow * > db at 2"},
		{"blocks of HCL", "a.hcl", "Kind = \"service-intentions\"\nName = \"db\"\nSources {\n Name = \"a\"\n Action = \"allow\"\n}\nSources {\n Name = \"b\"\n Action = \"deny\"\n}",
			"allow a > db at 3; deny b > db at 7"},
		{"entries that set nothing", "a.json", `[{"Kind": "service-defaults", "Name": "db", "Protocol": "TCP"}, {"Kind": "service-resolver", "Name": "db", "Partition": "", "Subsets": {}, "ConnectTimeout": "0s", "Redirect": null}]`, ""},
		{"entries that set something", "a.json", `[{"Kind": "service-defaults", "Name": "db", "Protocol": "http"},
{"Kind": "service-resolver", "Name": "db", "ConnectTimeout": "5s"}, {"Kind": "mesh"}]`,
			"unsupported a.json:1:45: service-defaults.Protocol: connections are carried as TCP, and no proxy runs that could be configured; " +
				"unsupported a.json:2:44: service-resolver.ConnectTimeout: attempts have fixed limits (docs/balancing.md); " +
				"unsupported a.json:2:70: Kind mesh: its settings are flags of tacitd (tacitd --help)"},
		{"nothing", "a.hcl", "", ""},
		{"a service file", "a.hcl", `service { name = "web" }`, "error a.hcl:1:1: service: a service definition; put the file into the folder --services-dir of its node"},
		{"a file of ingresses", "a.hcl", `ingress { name = "web" }`, "error a.hcl:1:1: ingress: the definition of an ingress; put the file into the folder --services-dir of its node"},
		{"an ingress as source", "a.hcl", `intention { source = "Ingress/Public" destination = "web" action = "allow" }`, "allow ingress/public > web at 1"},
		{"an ingress as destination", "a.json", `{"Kind": "service-intentions", "Name": "ingress/public", "Sources": []}`,
			"error a.json:1:32: Name: bad source or destination: ingress/public is a source only: name the service that it leads to"},
		{"no syntax", "a.hcl", "intention {", "error a.hcl:1:12: not HCL: unexpected end of file, want a key or }"},
		{"twice", "a.hcl", `intention { source = "a" destination = "b" action = "deny" action = "allow" }`, "error a.hcl:1:60: intention.action: given twice"},
		{"text for a list", "a.json", `{"Kind": "service-intentions", "Name": "db", "Sources": "web"}`, "error a.json:1:46: Sources: want a block, not text"},
		{"a long description", "a.hcl", fmt.Sprintf(`intention { source = "a" destination = "b" action = "deny" description = "%0600d" }`, 1),
			"error a.hcl:1:60: description: must be one line of at most 512 bytes"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(lines(entries.Read([]string{dir}, nil)), dir+"/", ""); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func lines(r entries.Result) string {
	var out []string
	for _, i := range r.Intentions {
		line := i.From[strings.LastIndexByte(i.From, ':')+1:]
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s > %s at %s %s", i.Action, i.Source, i.Destination, line, i.Description)))
	}
	for _, w := range r.Resolvers {
		out = append(out, fmt.Sprintf("%s at %s: %s", w.Service, w.From[strings.LastIndexByte(w.From, ':')+1:], w.Rules))
	}
	for _, err := range r.Errors {
		out = append(out, "error "+err.Error())
	}
	for _, err := range r.Unsupported {
		out = append(out, "unsupported "+err.Error())
	}
	return strings.Join(out, "; ")
}

// TestNoFile: a folder without files is a mistake, since --prune would delete everything.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	if got := lines(entries.Read([]string{dir}, nil)); got != "error "+dir+": no *.hcl or *.json file in this folder" {
		t.Error(got)
	}
}
