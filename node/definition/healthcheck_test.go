// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tacit/node/definition"
)

// TestChecks: each check block of a service with port 80 at 192.0.2.7, in HCL,
// beside what it defines, as JSON without its source.
func TestChecks(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"tcp", `check { tcp = "localhost:81" interval = "10s" }`,
			`{"id":"service:web","name":"tcp","kind":"tcp","target":"localhost:81","interval":10000000000,"timeout":10000000000,"status":"critical"}`},
		{"the service's own listener", `check { tcp = "" interval = "1s" timeout = "250ms" }`,
			`{"id":"service:web","name":"tcp","kind":"tcp","interval":1000000000,"timeout":250000000,"status":"critical"}`},
		{"http, with everything", `check {
			id = "api" name = "HTTP API" notes = "see the wiki"
			http = "https://192.0.2.7:8443/health" method = "post" body = "{}" disable_redirects = true
			header { Host = ["web.example"] X-Probe = "1" }
			tls_server_name = "web.example" tls_skip_verify = true
			interval = "1m" timeout = "2s" status = "passing"
			success_before_passing = 3 failures_before_warning = 1 failures_before_critical = 4 }`,
			`{"id":"api","name":"HTTP API","notes":"see the wiki","kind":"http","target":"https://192.0.2.7:8443/health",` +
				`"request":{"method":"POST","header":{"Host":["web.example"],"X-Probe":["1"]},"body":"{}","no_redirects":true},` +
				`"tls":{"skip_verify":true,"server_name":"web.example"},"interval":60000000000,"timeout":2000000000,"status":"passing",` +
				`"thresholds":{"passing":3,"warning":1,"critical":4}}`},
		{"http by path", `check { http = "/health" interval = "5s" }`,
			`{"id":"service:web","name":"http","kind":"http","target":"/health","interval":5000000000,"timeout":10000000000,"status":"critical"}`},
		{"grpc", `check { grpc = "127.0.0.1:9000/shop.Orders" grpc_use_tls = true interval = "10s" }`,
			`{"id":"service:web","name":"grpc","kind":"grpc","target":"127.0.0.1:9000/shop.Orders","tls":{"use":true},"interval":10000000000,"timeout":10000000000,"status":"critical"}`},
		{"args", `check { id = "mem" args = ["/usr/local/bin/check_mem", "-limit", "256MB"] interval = "10s" }`,
			`{"id":"mem","name":"mem","kind":"script","args":["/usr/local/bin/check_mem","-limit","256MB"],"interval":10000000000,"timeout":30000000000,"status":"critical"}`},
		{"a script of the old kind", `check { script = "exit 1" interval = "10s" }`,
			`{"id":"service:web","name":"script","kind":"script","args":["/bin/sh","-c","exit 1"],"interval":10000000000,"timeout":30000000000,"status":"critical"}`},
		{"ttl", `check { name = "batch" ttl = "30s" }`,
			`{"id":"service:web","name":"batch","kind":"ttl","ttl":30000000000,"status":"critical"}`},
		{"alias", `check { alias_service = "db" }`,
			`{"id":"service:web","name":"alias","kind":"alias","target":"db","status":"critical"}`},
		{"several are numbered", `checks = [{ ttl = "1s" }, { tcp = "", interval = "1s" }]`,
			`{"id":"service:web:1","name":"ttl","kind":"ttl","ttl":1000000000,"status":"critical"}` +
				` {"id":"service:web:2","name":"tcp","kind":"tcp","interval":1000000000,"timeout":10000000000,"status":"critical"}`},
		{"blocks may repeat", "check { ttl = \"1s\" }\ncheck { ttl = \"2s\" }",
			`{"id":"service:web:1","name":"ttl","kind":"ttl","ttl":1000000000,"status":"critical"} {"id":"service:web:2","name":"ttl","kind":"ttl","ttl":2000000000,"status":"critical"}`},
		{"an empty one counts for nothing", `checks = [{}]`, ``},
	} {
		defs, problems := definition.Parse("web.hcl", []byte("service { name = \"web\" port = 80 address = \"192.0.2.7\"\n"+tt.text+"\n}"))
		if len(problems) > 0 || len(defs) != 1 {
			t.Errorf("%s: %v", tt.name, problems)
			continue
		}
		var got []string
		for _, c := range defs[0].Checks {
			if !strings.HasPrefix(c.Source, "web.hcl:") {
				t.Errorf("%s: defined in %q", tt.name, c.Source)
			}
			c.Source = ""
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Replace(string(text), `,"source":""`, "", 1))
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, text, tt.want)
		}
	}
}

// TestChecksInJSON: a check has the line of its own brace.
func TestChecksInJSON(t *testing.T) {
	defs, problems := definition.Parse("web.json", []byte("{\"service\": {\"name\": \"web\", \"port\": 80, \"checks\": [\n{\"http\": \"/\", \"interval\": \"1s\"},\n"+
		"{\"grpc\": \"/a.B\", \"interval\": \"1s\"}]}}"))
	if len(problems) > 0 || len(defs) != 1 || len(defs[0].Checks) != 2 {
		t.Fatalf("%+v, %v", defs, problems)
	}
	if http, grpc := defs[0].Checks[0], defs[0].Checks[1]; http.Source != "web.json:2" || grpc.Source != "web.json:3" || grpc.GRPCService() != "a.B" {
		t.Errorf("%+v", defs[0].Checks)
	}
}

// TestIgnoredInChecks: what has no meaning here is named once, with its line.
func TestIgnoredInChecks(t *testing.T) {
	defs, problems := definition.Parse("web.hcl", []byte(`service {
  name = "web"
  check {
    ttl = "10s"
    deregister_critical_service_after = "1h"
  }
  check {
    udp = "localhost:53"
    interval = "10s"
  }
}`))
	if len(problems) > 0 || len(defs) != 1 || len(defs[0].Checks) != 1 {
		t.Fatalf("%+v, %v", defs, problems)
	}
	want := "web.hcl:5: service.check.deregister_critical_service_after: a critical instance isn't called, and stays registered\n" +
		"web.hcl:8: service.check.udp: such checks aren't run, so this one says nothing; use tcp, http, grpc or args"
	if got := strings.Join(defs[0].Ignored, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestBadChecks: each bad block beside what is said about it; the block is on
// line 2.
func TestBadChecks(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`chekc { }`, `2:1: service.chekc: unknown key; did you mean check?`},
		{`check { htpp = "/" interval = "1s" }`, `2:9: service.check.htpp: unknown key; did you mean http?`},
		{`check { Interval = "1s" }`, `2:9: service.check.Interval: unknown key; did you mean interval?`},
		{`check { interval = "10s" }`, `2:1: service.check: one of tcp, http, grpc, args, ttl and alias_service must be given`},
		{`check { tcp = "" }`, `2:1: service.check.interval: missing; say how often, such as "10s"`},
		{`check { ttl = "10s" interval = "10s" }`, `2:1: service.check: interval and ttl exclude each other`},
		{`check { tcp = "" http = "/" interval = "1s" }`, `2:18: service.check.http: tcp is given already; write a second check for it`},
		{`check { tcp = "" interval = 10 }`, `2:18: service.check.interval: want text, not a number`},
		{`check { tcp = "" interval = "10" }`, `2:18: service.check.interval: "10": must be a time from 1s to 24h0m0s, such as "10s"`},
		{`check { tcp = "" interval = "1ms" }`, `2:18: service.check.interval: "1ms": must be a time from 1s to 24h0m0s, such as "10s"`},
		{`check { tcp = "" interval = "1s" timeout = "-1s" }`, `2:34: service.check.timeout: "-1s": must be a time from 1ms to 24h0m0s, such as "10s"`},
		{`check { tcp = "localhost" interval = "1s" }`, `2:9: service.check.tcp: "localhost": must be HOST:PORT, or "" for the service's own listener`},
		{`check { tcp = "localhost:70000" interval = "1s" }`, `2:9: service.check.tcp: port 70000: must be 1 to 65535`},
		{`check { http = "ftp://localhost/" interval = "1s" }`, `2:9: service.check.http: "ftp://localhost/": must be a URL with http or https, or a path such as /health for the service's own listener`},
		{`check { http = "http://example.com/" interval = "1s" }`, `2:9: service.check.http: example.com isn't this instance: a check reaches its own instance only; ` +
			`write localhost, and the name into header { Host = ["…"] } or tls_server_name where it matters`},
		{`check { http = "http://192.0.2.9/" interval = "1s" }`, `2:9: service.check.http: 192.0.2.9 isn't this instance: *`},
		{`check { http = "/" interval = "1s" header { "X Y" = "1" } }`, `2:45: service.check.header.X Y: neither the name nor the value can be sent in an HTTP header`},
		{`check { http = "/" interval = "1s" method = "G T" }`, `2:36: service.check.method: "G T": must be an HTTP method, such as GET`},
		{`check { args = [] interval = "1s" }`, `2:9: service.check.args: must begin with a program`},
		{`check { args = "/bin/true" interval = "1s" }`, `2:9: service.check.args: want a list, not text`},
		{`check { alias_service = "" }`, `2:9: service.check.alias_service: must name an instance or a service of this node`},
		{`check { ttl = "10s" status = "fine" }`, `2:21: service.check.status: "fine": must be passing, warning or critical`},
		{`check { ttl = "10s" failures_before_critical = -1 }`, `2:*`},
		{`check { ttl = "10s" name = "" }`, `2:21: service.check.name: must be one line of 1 to 128 bytes`},
		{`checks = [{ id = "a", ttl = "1s" }, { id = "a", ttl = "1s" }]`, `2:37: service.checks.id: another check of the service is called a`},
		{`checks = [` + strings.Repeat(`{ ttl = "1s" },`, 33) + `]`, `2:491: service.checks: more than 32 checks`},
	} {
		text := "service { name = \"web\" port = 80\n" + tt.text + "\n}"
		if defs, problems := definition.Parse("x.hcl", []byte(text)); len(defs) > 0 || len(problems) != 1 || !matches(problems[0].Error(), "x.hcl:"+tt.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.text, problems, tt.want)
		}
	}
	_, problems := definition.Parse("x.json", []byte(`{"service": {"name": "web", "check": {"tcp": "", "interval": "1s"}}}`))
	if got := fmt.Sprint(problems); got != "[x.json:1:39: service.check.tcp: the service has no port, so the check must name one]" {
		t.Error(got)
	}
	_, problems = definition.Parse("x.json", []byte(`{"check": {}}`))
	if got := fmt.Sprint(problems); got != "[x.json:1:2: check: write it inside its service { … }]" {
		t.Error(got)
	}
}
