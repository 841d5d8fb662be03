// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tacit/node"
)

// settings is a value for every setting that isn't its default, as written on the
// command line, and in HCL and JSON.
func settings() map[string]struct{ flag, hcl string } {
	same := func(s string) struct{ flag, hcl string } { return struct{ flag, hcl string }{s, s} }
	text := func(s string) struct{ flag, hcl string } { return struct{ flag, hcl string }{s, fmt.Sprintf("%q", s)} }
	return map[string]struct{ flag, hcl string }{
		"node": text("host9"), "state-dir": text("/s"), "run-dir": text("/r"), "address": text("192.0.2.9"),
		"cgroup": text("/c"), "bpffs-dir": text("/b"), "services-dir": text("/d"), "bootstrap": same("true"), "alone": same("true"),
		"join": {"a:1,b", `["a:1", "b"]`}, "token-file": text("/t"), "trust-domain": text("other.test"),
		"default-intention": text("allow"), "domain": {"one,two", `["one", "two"]`}, "redirect": text("sockets"), "zone": text("rack1"),
		"search": {"corp.example,lan", `["corp.example", "lan"]`}, "datacenter": text("dc9"), "forward-consul": same("false"),
		"gossip-port": same("17946"), "lane-port": same("17947"), "virtual-range4": text("10.0.0.0/8"),
		"virtual-range6": text("fd00::/16"), "leaf-ttl": text("90s"), "resolv-conf": text("/resolv"), "confirm": text("45s"),
		"take-over": same("true"), "drain": text("90s"),
		"max-intentions": {"64", "64"}, "max-workloads": {"65", "65"}, "max-connecting": {"66", "66"}, "metrics": text("127.0.0.1:9464"),
		"exclude-port": {"22,9100", "[22, 9100]"}, "exclude-cidr": {"10.9.0.0/16,fd00::/8", `["10.9.0.0/16", "fd00::/8"]`},
		"exclude-uid": {"0,4242", `["root", 4242]`}, "exclude-cgroup": text("system.slice/sshd.service"),
		"log-format": text("json"), "log-level": text("debug"),
	}
}

// excludeKey is a flag's key in the exclude block; "" for all other flags.
func excludeKey(flag string) string {
	for key, name := range excludeKeys {
		if name == flag {
			return key
		}
	}
	return ""
}

// parse returns the config that tacitd gets from these arguments.
func parse(args ...string) (node.Config, error) {
	var o options
	f := pflag.NewFlagSet("tacitd", pflag.ContinueOnError)
	o.bind(f)
	if err := f.Parse(args); err != nil {
		return node.Config{}, err
	}
	return o.config(f)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSettingsAreComplete: a new flag must be added to the table above.
func TestSettingsAreComplete(t *testing.T) {
	f := pflag.NewFlagSet("tacitd", pflag.ContinueOnError)
	new(options).bind(f)
	known := settings()
	f.VisitAll(func(flag *pflag.Flag) {
		s, ok := known[flag.Name]
		if !ok && flag.Name != "config" {
			t.Errorf("--%s is in no test", flag.Name)
		}
		if ok && s.flag == flag.DefValue {
			t.Errorf("--%s is tested with its default", flag.Name)
		}
		delete(known, flag.Name)
	})
	for name := range known {
		t.Errorf("--%s is gone", name)
	}
}

// TestFileSaysWhatFlagsSay: the same settings by flags, by HCL and by JSON,
// with _ and with -, give the same config.
func TestFileSaysWhatFlagsSay(t *testing.T) {
	var args, hcl, dashed, jsonText, block, jsonBlock []string
	for name, s := range settings() {
		key := strings.ReplaceAll(name, "-", "_")
		args = append(args, "--"+name+"="+s.flag)
		if key := excludeKey(name); key != "" {
			block = append(block, key+" = "+s.hcl)
			jsonBlock = append(jsonBlock, fmt.Sprintf("%q: %s", key, s.hcl))
			continue
		}
		hcl = append(hcl, key+" = "+s.hcl)
		dashed = append(dashed, name+" = "+s.hcl)
		jsonText = append(jsonText, fmt.Sprintf("%q: %s", key, s.hcl))
	}
	exclude := "\nexclude {\n" + strings.Join(block, "\n") + "\n}\n"
	jsonText = append(jsonText, `"exclude": {`+strings.Join(jsonBlock, ",")+"}")
	want, err := parse(args...)
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	want.Log, nothing.Log = nil, nil
	want.Exclude.At = nil
	for i, v := 0, reflect.ValueOf(want); i < v.NumField(); i++ {
		field := v.Type().Field(i).Name
		if field != "Log" && field != "Version" && field != "Reload" && reflect.DeepEqual(v.Field(i).Interface(), reflect.ValueOf(nothing).Field(i).Interface()) {
			t.Errorf("no setting reaches Config.%s", field)
		}
	}
	for name, text := range map[string]string{
		"under.hcl": strings.Join(hcl, "\n") + exclude, "dashed.hcl": exclude + strings.Join(dashed, "\n"), "no-suffix": strings.Join(hcl, "\n") + exclude,
		"under.json": "{" + strings.Join(jsonText, ",") + "}",
	} {
		got, err := parse("--config", write(t, name, text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got.Log, got.Exclude.At = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, want)
		}
	}
}

func TestFlagsWin(t *testing.T) {
	for name, s := range settings() {
		if name == "log-format" || name == "log-level" {
			continue // leave no trace in a Config
		}
		alone, err := parse("--" + name + "=" + s.flag)
		if err != nil {
			t.Fatal(err)
		}
		file := map[string]any{name: "7"}
		if name == "bootstrap" {
			file[name] = false
		}
		if key := excludeKey(name); key != "" {
			file = map[string]any{"exclude": map[string]any{key: 7}}
		}
		text, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, "tacitd.json", string(text))
		for _, args := range [][]string{{"--config", path, "--" + name + "=" + s.flag}, {"--" + name + "=" + s.flag, "--config", path}} {
			got, err := parse(args...)
			got.Log, alone.Log = nil, nil
			if err != nil || !reflect.DeepEqual(got, alone) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

func TestLists(t *testing.T) {
	for text, want := range map[string]string{
		``:                           "mesh",
		`domain = "one"`:             "one",
		`domain = "one,two"`:         "one two",
		`domain = ["one"]`:           "one",
		`domain = ["one", "two"]`:    "one two",
		`domain = []`:                "",
		`domain = ["a\"b", "c"]`:     `a"b c`,
		`domain = ["one", "tw,o"]`:   "one tw,o",
		"domain = [\n\"one\",\n]\n":  "one",
		"# comment\ndomain = \"x\"":  "x",
		`lane_port = "7000"`:         "mesh",
		"lane_port = 7000 // and so": "mesh",
	} {
		c, err := parse("--config", write(t, "tacitd.hcl", text))
		if got := strings.Join(c.Domains, " "); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
	c, err := parse("--domain", "a", "--domain", "b,c", "--join", "x", "--join", "y:1")
	if err != nil || strings.Join(c.Domains, " ") != "a b c" || strings.Join(c.Join, " ") != "x y:1" {
		t.Errorf("flags: %v %v %v", c.Domains, c.Join, err)
	}
}

// TestBadFiles: each error is one line and names file, line and key.
func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       []string // the first follows the file's path
	}{
		"unknown":                 {"a.hcl", "node = \"x\"\nnods = \"y\"", []string{":2: nods: no such setting"}},
		"unknown, JSON":           {"a.json", "{\n\"node\": \"x\",\n\"nods\": \"y\"}", []string{":3: nods: no such setting"}},
		"the first of two":        {"a.hcl", "\nbad = 1\nworse = 1\naaa = 1", []string{":2: bad: "}},
		"config":                  {"a.hcl", `config = "b.hcl"`, []string{":1: config: no such setting"}},
		"help":                    {"a.hcl", `help = true`, []string{":1: help: no such setting"}},
		"version":                 {"a.hcl", `version = true`, []string{":1: version: no such setting"}},
		"a subcommand's":          {"a.hcl", `json = true`, []string{":1: json: no such setting"}},
		"port is a word":          {"a.hcl", `lane_port = "x"`, []string{":1: lane_port: ", `"x"`}},
		"port is too large":       {"a.hcl", `lane_port = 65536`, []string{":1: lane_port: ", "65536"}},
		"port is negative":        {"a.hcl", `gossip_port = -1`, []string{":1: gossip_port: ", "-1"}},
		"port is half":            {"a.hcl", `gossip_port = 1.5`, []string{":1: gossip_port: ", "1.5"}},
		"port is true":            {"a.hcl", `gossip_port = true`, []string{":1: gossip_port: "}},
		"duration without a unit": {"a.hcl", `leaf_ttl = 5`, []string{":1: leaf_ttl: ", "unit"}},
		"bool is a word":          {"a.hcl", `bootstrap = "yes"`, []string{":1: bootstrap: ", `"yes"`}},
		"text is a list":          {"a.hcl", `state_dir = ["/a", "/b"]`, []string{":1: state_dir: want one string"}},
		"text is an object":       {"a.json", `{"node": {"a": 1}}`, []string{":1: node: want one string"}},
		"text is null":            {"a.json", `{"node": null}`, []string{":1: node: want one string"}},
		"list is an object":       {"a.json", `{"join": {"a": "b"}}`, []string{":1: join: want a string, or a list of strings"}},
		"list is an empty object": {"a.hcl", `join = {}`, []string{":1: join: want a string, or a list of strings"}},
		"list of lists":           {"a.hcl", `join = [["a"], "b"]`, []string{":1: join: want a string, or a list of strings"}},
		"list is null":            {"a.hcl", `join = null`, []string{":1: join: want "}},
		"set twice":               {"a.hcl", "lane_port = 1\nlane-port = 2", []string{":2: lane-port: set twice", "line 1"}},
		"set twice, same key":     {"a.hcl", "node = \"a\"\nnode = \"b\"", []string{":2: ", "node"}},
		"a variable":              {"a.hcl", `node = hostname`, []string{":1: node: "}},
		"a block":                 {"a.hcl", "node = \"a\"\nservice {\n}\n", []string{":2: ", "service"}},
		"exclude: unknown":        {"a.hcl", "exclude {\n  port = 22\n}", []string{":2: exclude.port: no such setting; known are cgroups, cidrs, ports and uids"}},
		"exclude: port 0":         {"a.hcl", "exclude {\n\n  ports = [22, 0]\n}", []string{":3: exclude.ports: \"0\": must be a port from 1 to 65535"}},
		"exclude: a large port":   {"a.json", "{\"exclude\": {\n\"ports\": 65536}}", []string{":2: exclude.ports: \"65536\": must be a port"}},
		"exclude: no network":     {"a.hcl", "exclude {\n  cidrs = [\"10.0.0.0/33\"]\n}", []string{":2: exclude.cidrs: \"10.0.0.0/33\": must be a network such as"}},
		"exclude: bits":           {"a.hcl", "exclude {\n  cidrs = [\"10.0.0.1/8\"]\n}", []string{":2: exclude.cidrs: ", "is 10.0.0.0/8 meant?"}},
		"exclude: mapped":         {"a.hcl", "exclude {\n  cidrs = [\"::ffff:10.0.0.0/104\"]\n}", []string{":2: exclude.cidrs: ", "write it as an IPv4 network"}},
		"exclude: nobody":         {"a.hcl", "exclude {\n  uids = [\"no-such-user\"]\n}", []string{":2: exclude.uids: \"no-such-user\": is neither"}},
		"exclude: uid -1":         {"a.hcl", "exclude {\n  uids = [4294967295]\n}", []string{":2: exclude.uids: "}},
		"exclude: empty path":     {"a.hcl", "exclude {\n  cgroups = [\"\"]\n}", []string{":2: exclude.cgroups: \"\": must be a path"}},
		"exclude twice":           {"a.hcl", "exclude {\n}\nexclude {\n}", []string{":3: exclude: given twice, first in line 1"}},
		"exclude is a value":      {"a.hcl", "exclude = 22", []string{":1: ", "exclude"}},
		"exclude is a text":       {"a.json", `{"exclude": "22"}`, []string{":1: "}},
		"exclude, flat":           {"a.hcl", "exclude_port = 22", []string{":1: exclude_port: is a block: write exclude {"}},
		"exclude in exclude":      {"a.hcl", "exclude {\n  exclude {\n  }\n}", []string{":2: ", "exclude"}},
		"no HCL":                  {"a.hcl", "node = \"a\"\n= 3", []string{":2: "}},
		"no JSON":                 {"a.json", `{"node": `, []string{":1: "}},
		"JSON of no object":       {"a.json", `"node"`, []string{":1: "}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file, c.text)
			_, err := parse("--config", path)
			if err == nil {
				t.Fatal("taken")
			}
			if !strings.HasPrefix(err.Error(), "config: "+path+c.want[0]) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want config: %s%s", err, path, c.want[0])
			}
			for _, part := range c.want[1:] {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q doesn't say %q", err, part)
				}
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "missing.hcl")
	if _, err := parse("--config", missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing file: %v", err)
	}
}
