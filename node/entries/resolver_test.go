// SPDX-License-Identifier: Apache-2.0

package entries_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/node/entries"
)

// TestResolvers: our own form and Consul's, what they become, and what of them is
// refused or left out, with its line.
func TestResolvers(t *testing.T) {
	const consul = `Kind = "service-resolver"
Name = "DB"
DefaultSubset = "v1"
Subsets = {
  v1 = { Filter = "Service.Meta.version == v1" }
  "v2" = { Filter = "\"canary\" in Service.Tags and Service.Meta[\"version\"] == \"2\"", OnlyPassing = false }
}
Failover = { "*" = { Service = "db-standby" } }
`
	for _, c := range []struct{ name, file, text, want string }{
		{"blocks", "a.hcl", `service_resolver "DB" {
  subset "v1" { tag = "v1" }
  subset "v2" { meta = { version = "2", zone = "x" } }
  split { v1 = 90, v2 = 10 }
  failover { services = ["db-standby", "Db3"] }
}
service_resolver "web" { failover { services = ["web2"] } }`,
			"db at 1: subset v1 (tag v1); subset v2 (version = 2, zone = x); split v1 = 90, v2 = 10; failover db-standby, db3; web at 7: failover web2"},
		{"JSON", "a.json", `{"service_resolver": {"db": {"subset": {"v1": {"tag": "a"}}, "split": {"v1": 1}}}}`, "db at 1: subset v1 (tag a); split v1 = 1"},
		{"nothing set", "a.hcl", `service_resolver "db" {}`, "error a.hcl:1:18: the rules of db: neither subsets nor failover is set"},
		{"no label", "a.hcl", `service_resolver { name = "db" }`, `error a.hcl:1:20: service_resolver.name: want a name and a block: service_resolver "NAME" { … }`},
		{"itself", "a.hcl", `service_resolver "db" { failover { services = ["db"] } }`, "error a.hcl:1:18: the rules of db: failover: db can't stand in for itself"},
		{"any", "a.hcl", `service_resolver "db" { failover { services = ["*"] } }`, `error a.hcl:1:48: failover.services: "*" stands for no single service`},
		{"a subset that isn't there", "a.hcl", `service_resolver "db" { subset "v1" { tag = "x" } split { v2 = 1 } }`, `error a.hcl:1:18: the rules of db: split: there is no subset "v2"`},
		{"a part", "a.hcl", `service_resolver "db" { subset "v1" { tag = "x" } split { v1 = 0.5 } }`, "error a.hcl:1:59: split.v1: want a whole number from 0 to 10000"},
		{"misspelt", "a.hcl", `service_resolver "db" { fallover { services = ["x"] } }`,
			"error a.hcl:1:25: service_resolver.fallover: unknown key (did you mean failover?); known are subset, split, failover"},
		{"misspelt block", "a.hcl", `service_resolvr "db" {}`,
			"error a.hcl:1:1: service_resolvr: unknown key (did you mean service_resolver?); known are intention and service_resolver, and Kind for a config entry"},
		{"twice", "a.hcl", `service_resolver "db" { failover { services = ["x"] } }
service_resolver "db" { failover { services = ["y"] } }`, "db at 1: failover x; error a.hcl:2:18: the rules of db are given in a.hcl:1 already; keep one of them"},

		{"Consul's", "a.hcl", consul, "db at 1: subset v1 (version = v1); subset v2 (tag canary, version = 2); split v1 = 100; failover db-standby"},
		{"targets", "a.hcl", `Kind = "service-resolver"
Name = "db"
Failover = { "*" = { Targets = [{ Service = "a" }, { Service = "b", Namespace = "default" }, { Service = "c", Datacenter = "dc2" }] } }`,
			"db at 1: failover a, b; unsupported a.hcl:3:111: Targets.Datacenter: failover is to other services of this mesh, as a whole"},
		{"a subset's failover", "a.hcl", "Kind = \"service-resolver\"\nName = \"db\"\nFailover = {\n  v1 = { Service = \"x\" }\n}",
			`unsupported a.hcl:4:3: Failover.v1: failover is for the whole service; write it for "*"`},
		{"another filter", "a.hcl", "Kind = \"service-resolver\"\nName = \"db\"\nSubsets = {\n  v1 = {\n    Filter = \"Service.Port != 80\"\n  }\n}",
			`unsupported a.hcl:5:5: Filter of subset v1: only Service.Meta.KEY == "VALUE" and one "TAG" in Service.Tags, joined with and, are understood`},
		{"two tags", "a.json", `{"Kind": "service-resolver", "Name": "db", "Subsets": {"v1": {"Filter": "a in Service.Tags and Service.Tags contains \"b\"", "OnlyPassing": true}}}`,
			`unsupported a.json:1:63: Filter of subset v1: only Service.Meta.KEY == "VALUE" and one "TAG" in Service.Tags, joined with and, are understood`},
		{"only passing", "a.json", `{"Kind": "service-resolver", "Name": "db", "Subsets": {"v1": {"OnlyPassing": true, "Filter": "a in Service.Tags"}},
"Redirect": {"Service": "x"}, "LoadBalancer": {"Policy": "maglev"}, "PrioritizeByLocality": {"Mode": "failover"}}`,
			"db at 1: subset v1 (tag a); unsupported a.json:1:63: Subsets.v1.OnlyPassing: an instance with a warning counts as healthy; " +
				"unsupported a.json:2:1: service-resolver.Redirect: connections aren't redirected: let callers use the other name, or list it as failover; " +
				"unsupported a.json:2:31: service-resolver.LoadBalancer: set balance in the definition of the service"},

		{"a splitter", "a.json", `[{"Kind": "service-splitter", "Splits": [{"Weight": 99.5}, {"Weight": 0.5, "Service": "DB", "ServiceSubset": "v2"}], "Name": "db"},
{"Kind": "service-resolver", "Name": "db", "DefaultSubset": "v1", "Subsets": {"v1": {"Filter": "a in Service.Tags"}, "v2": {"Filter": "b in Service.Tags"}}}]`,
			"db at 2: subset v1 (tag a); subset v2 (tag b); split v1 = 9950, v2 = 50"},
		{"a splitter alone", "a.hcl", "Kind = \"service-splitter\"\nName = \"db\"\nSplits = [{ Weight = 100, ServiceSubset = \"v1\" }]",
			"error a.hcl:1:1: no service-resolver of these files has the subsets of db"},
		{"between services", "a.json", `{"Kind": "service-splitter", "Name": "db", "Splits": [{"Weight": 90}, {"Weight": 10, "Service": "db2", "RequestHeaders": {"Set": {"a": "b"}}}]}`,
			"error a.json:1:1: no service-resolver of these files has the subsets of db; unsupported a.json:1:86: Splits.Service: connections are split between subsets, not between services; " +
				"unsupported a.json:1:104: Splits.RequestHeaders: requests aren't read"},
		{"not all", "a.json", `{"Kind": "service-splitter", "Name": "db", "Splits": [{"Weight": 90, "ServiceSubset": "v1"}]}`,
			"error a.json:1:1: Splits: the weights add up to 90, and must to 100"},
		{"no weight", "a.json", `{"Kind": "service-splitter", "Name": "db", "Splits": [{"ServiceSubset": "v1"}]}`,
			"error a.json:1:55: Splits: Weight: want a number from 0 to 100"},
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

// TestSplitElsewhere: a splitter and its resolver may stand in two files.
func TestSplitElsewhere(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"1.json": `{"Kind": "service-splitter", "Name": "db", "Splits": [{"Weight": 100, "ServiceSubset": "v1"}]}`,
		"2.hcl":  `service_resolver "db" { subset "v1" { tag = "v1" } }`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := lines(entries.Read([]string{dir}, nil)); got != "db at 1: subset v1 (tag v1); split v1 = 100" {
		t.Error(got)
	}
}
