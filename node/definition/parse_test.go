// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"tacit/node/definition"
)

// Each file beside what it defines, as JSON.
var accepted = []struct{ name, file, text, want string }{
	{
		"the managed proxy of 2018, with an upstream", "a.json",
		`{"services":[{"name":"service-A","port":80,"connect":{"proxy":{"config":{"upstreams":[{"destination_name":"service-B","local_bind_port":12000}]}}}}]}`,
		`[{"name":"service-a","id":"service-a","port":80,"weight":1,"upstreams":[{"destination":"service-b","bind":"127.0.0.1:12000"}],"source":"a.json:1"}]`,
	},
	{
		"what programs see of their callers", "seen.hcl",
		"service {\n  name = \"a\"\n  client_address = \"service\"\n}\nservice {\n  name = \"b\"\n  client_address = \"loopback\"\n}\nservice {\n  name = \"c\"\n  client_address = \"proxy_protocol\"\n}\nservice {\n  name = \"d\"\n  client_address = \"client\"\n}\n",
		`[{"name":"a","id":"a","weight":1,"source":"seen.hcl:1"},{"name":"b","id":"b","weight":1,"client_address":"loopback","source":"seen.hcl:5"},{"name":"c","id":"c","weight":1,"client_address":"proxy_protocol","source":"seen.hcl:9"},{"name":"d","id":"d","weight":1,"client_address":"client","source":"seen.hcl:13"}]`,
	},
	{
		"the managed proxy of 2018, empty", "b.json",
		`{"services":[{"name":"service-B","port":80,"connect":{"proxy":{}}}]}`,
		`[{"name":"service-b","id":"service-b","port":80,"weight":1,"source":"b.json:1"}]`,
	},
	{
		"a sidecar in HCL, upstreams as blocks", "web.hcl",
		`service {
  name = "Web"
  id   = "web-1"
  port = 8080
  tags = ["v1", "blue"]
  meta = { owner = "ops" }
  weights { passing = 10 }
  token = "secret"
  enable_tag_override = true
  check {
    http = "http://127.0.0.1:8080/health"
    interval = "10s"
  }
  connect {
    sidecar_service {
      port = 21000
      proxy {
        local_service_port = 8080
        upstreams {
          destination_name = "db"
          local_bind_port  = 5432
        }
        upstreams {
          destination_name   = "Cache"
          destination_type   = "service"
          local_bind_address = "::1"
          local_bind_port    = 6379
        }
      }
    }
  }
}
`,
		`[{"name":"web","id":"web-1","port":8080,"tags":["v1","blue"],"meta":{"owner":"ops"},"weight":10,
		"upstreams":[{"destination":"db","bind":"127.0.0.1:5432"},{"destination":"cache","bind":"[::1]:6379"}],
		"checks":[{"id":"service:web-1","name":"http","kind":"http","target":"http://127.0.0.1:8080/health","interval":10000000000,"timeout":10000000000,"status":"critical","source":"web.hcl:10"}],
		"ignored":["web.hcl:8: service.token: there are no ACL tokens; a node's grants say what it may run",
		"web.hcl:9: service.enable_tag_override: tags are changed in this file only",
		"web.hcl:16: service.connect.sidecar_service.port: no sidecar runs"],"source":"web.hcl:1"}]`,
	},
	{
		"the same in JSON", "web.json",
		`{"service": {"name": "web", "checks": [{}, {}], "connect": {"sidecar_service": {"proxy": {"upstreams": [
		  {"destination_name": "db", "local_bind_port": 5432}]}}}}}`,
		`[{"name":"web","id":"web","weight":1,"upstreams":[{"destination":"db","bind":"127.0.0.1:5432"}],"source":"web.json:1"}]`,
	},
	{
		"repeated blocks, workloads and modes", "many.hcl",
		`
service {
  name = "db"
  port = 5432
  workload { systemd_unit = "postgresql.service" }
}
service {
  name     = "old"
  port     = 70
  mode     = "permissive"
  balance  = "round_robin"
  retry    = "connect"
  address  = "192.0.2.7"
  workload { uid = 0 }
}
`,
		`[{"name":"db","id":"db","port":5432,"weight":1,"workload":{"systemd_unit":"postgresql.service"},"source":"many.hcl:2"},
		{"name":"old","id":"old","port":70,"address":"192.0.2.7","weight":1,"balance":"round_robin","retry":"connect","workload":{"uid":0},"permissive":true,"source":"many.hcl:7"}]`,
	},
	{
		"a list in HCL, and null stands for nothing", "list.hcl",
		`services = [{ name = "a", port = null }, { name = "b", address = "127.0.0.1" }]`,
		`[{"name":"a","id":"a","weight":1,"source":"list.hcl:1"},
		{"name":"b","id":"b","weight":1,"ignored":["list.hcl:1: service.address 127.0.0.1: other nodes reach the instance at this node's address"],"source":"list.hcl:1"}]`,
	},
	{
		"HCL of the first version: one line, quoted keys, blocks with =, heredocs", "one.hcl",
		`"service" = { "name" = "web", "port": 80 connect { sidecar_service {} } meta { k = "a\tb", h = <<X
w
X
} tags = ["t","u",]
}`,
		`[{"name":"web","id":"web","port":80,"tags":["t","u"],"meta":{"h":"w\n","k":"a\tb"},"weight":1,"source":"one.hcl:1"}]`,
	},
	{
		"an ingress beside its service", "in.hcl",
		"service {\n  name = \"web\"\n  port = 80\n}\ningress {\n  name = \"Public\"\n  port = 8080\n  service = \"WEB\"\n}\n",
		`[{"name":"web","id":"web","port":80,"weight":1,"source":"in.hcl:1"},
		{"name":"ingress/public","id":"ingress/public","ingress":{"port":8080,"service":"web","max_connections":1024,"max_connections_per_client":128},"source":"in.hcl:5"}]`,
	},
	{
		"two ingresses in JSON, one with everything", "in.json",
		`{"ingress":[{"name":"a","address":"::ffff:10.0.0.1","port":443,"service":"web","service_port":8443,"max_connections":10,"max_connections_per_client":2},{"name":"b","address":"::","port":1,"service":"a"}]}`,
		`[{"name":"ingress/a","id":"ingress/a","ingress":{"address":"10.0.0.1","port":443,"service":"web","service_port":8443,"max_connections":10,"max_connections_per_client":2},"source":"in.json:1"},
		{"name":"ingress/b","id":"ingress/b","ingress":{"address":"::","port":1,"service":"a","max_connections":1024,"max_connections_per_client":128},"source":"in.json:1"}]`,
	},
	{"nothing", "empty.hcl", ``, `null`},
}

func TestAccepted(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			defs, problems := definition.Parse(tt.file, []byte(tt.text))
			for _, p := range problems {
				t.Error(p)
			}
			got, err := json.Marshal(defs)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.NewReplacer("\n", "", "\t", "").Replace(tt.want); string(got) != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// Each bad file beside every line that is said about it.
var refused = []struct {
	name, file, text string
	want             []string
}{
	{"unknown key, JSON", "x.json", "{\"service\": {\n  \"name\": \"a\",\n  \"connect\": {\"sidecar\": {}}\n}}",
		[]string{`x.json:3:15: service.connect.sidecar: unknown key; known are native, proxy, sidecar_service`}},
	{"unknown key, HCL", "x.hcl", "service {\n  name = \"a\"\n  weights { pasing = 2 }\n}",
		[]string{`x.hcl:3:13: service.weights.pasing: unknown key; did you mean passing?`}},
	{"unknown key at the top", "x.json", `{"node_name": "n"}`,
		[]string{`x.json:1:2: node_name: unknown key; known are check, checks, ingress, service, services`}},
	{"several at once, in order", "x.json", `{"services": [{"port": 70000}, {"name": "web_1", "id": "a b"}]}`, []string{
		`x.json:1:16: service.port: 70000: must be a whole number from 0 to 65535`,
		`x.json:1:15: service.name: missing`,
		`x.json:1:33: service.name: *`,
	}},
	{"ports are whole numbers", "x.hcl", `service { name = "a"` + "\n" + `port = 80.5 }`,
		[]string{`x.hcl:2:1: service.port: 80.5: must be a whole number from 0 to 65535`}},
	{"port as text", "x.json", `{"service":{"name":"a","port":"80"}}`,
		[]string{`x.json:1:24: service.port: want a number, not text`}},
	{"a huge number", "x.json", `{"service":{"name":"a","port":1e99}}`,
		[]string{`x.json:1:24: service.port: 1e99: must be a whole number from 0 to 65535`}},
	{"a key twice", "x.json", `{"service":{"name":"a","name":"b"}}`,
		[]string{`x.json:1:24: service.name: given twice`}},
	{"a block twice", "x.hcl", "service {\n name = \"a\"\n connect {}\n connect {}\n}",
		[]string{`x.hcl:4:2: service.connect: given twice`}},
	{"an id twice", "x.hcl", "service {\n name = \"a\"\n}\nservice {\n name = \"A\"\n}",
		[]string{`x.hcl:4:1: service id a is defined in x.hcl:1 already; give one of them another id`}},
	{"a label", "x.hcl", `service "web" {}`,
		[]string{`x.hcl:1:9: service takes no label: write service { name = "…" }`}},
	{"not JSON", "x.json", "{\"service\":\n {,}}", []string{`x.json:2:*: not JSON: invalid character ','*`}},
	{"cut short", "x.json", `{"service": {"name": "a"`, []string{`x.json:1:25: not JSON: unexpected end of file`}},
	{"text after the end", "x.json", `{} {}`, []string{`x.json:1:4: more text after the end of the JSON value`}},
	{"not HCL", "x.hcl", "service {\n", []string{`x.hcl:2:1: not HCL: unexpected end of file, want a key or }`}},
	{"a variable", "x.hcl", `service { name = var.x }`, []string{`x.hcl:1:18: not HCL: unexpected "var", want a value; put text in quotes`}},
	{"an open text", "x.hcl", "service { name = \"web\n}", []string{`x.hcl:*: not HCL: *, want the closing quote; ${…} isn't supported`}},
	{"a bad escape", "x.hcl", `service { name = "\q" }`, []string{`x.hcl:1:18: not HCL: Invalid escape sequence`}},
	{"a list without commas", "x.hcl", `service { tags = ["a" "b"] }`, []string{`x.hcl:1:23: not HCL: unexpected "\"", want , or ]`}},
	{"a template", "x.hcl", `service { name = "${web}" }`, []string{`x.hcl:1:19: not HCL: unexpected "${", want the closing quote; ${…} isn't supported`}},
	{"nested without end", "x.json", strings.Repeat("[", 5000), []string{`x.json:1:33: nested too deep`}},
	{"nested without end, HCL", "x.hcl", "a = " + strings.Repeat("[", 5000), []string{`x.hcl:1:37: nested too deep`}},
	{"the top is a list", "x.json", `[]`, []string{`x.json:1:1: the file: want a block, not a list`}},
	{"prepared query", "x.hcl", "service {\n name = \"a\"\n connect { proxy { upstreams = [{ destination_type = \"prepared_query\", destination_name = \"q\", local_bind_port = 1 }] } }\n}",
		[]string{`x.hcl:3:35: service.connect.proxy.upstreams.destination_type: "prepared_query" isn't supported, only service; name the service itself`}},
	{"a unix socket", "x.json", `{"service":{"name":"a","connect":{"sidecar_service":{"proxy":{"upstreams":[{"destination_name":"b","local_bind_socket_path":"/s"}]}}}}}`,
		[]string{`x.json:1:100: service.connect.sidecar_service.proxy.upstreams.local_bind_socket_path: upstreams on unix sockets aren't supported; use local_bind_port`}},
	{"an upstream without a port", "x.json", `{"service":{"name":"a","connect":{"proxy":{"upstreams":[{"destination_name":"b"}]}}}}`,
		[]string{`x.json:1:57: service.connect.proxy.upstreams: destination_name and local_bind_port must be given`}},
	{"an upstream for the network", "x.json", `{"service":{"name":"a","connect":{"proxy":{"upstreams":[{"destination_name":"b","local_bind_port":1,"local_bind_address":"0.0.0.0"}]}}}}`,
		[]string{`x.json:1:101: service.connect.proxy.upstreams.local_bind_address: 0.0.0.0: must be a loopback address, such as 127.0.0.1; others use the service's name`}},
	{"one address for two upstreams", "x.json", `{"service":{"name":"a","connect":{"proxy":{"upstreams":[{"destination_name":"b","local_bind_port":1},{"destination_name":"c","local_bind_port":1}]}}}}`,
		[]string{`x.json:1:2: upstreams: 127.0.0.1:1 is given to both b and c`}},
	{"another data centre", "x.json", `{"service":{"name":"a","connect":{"proxy":{"upstreams":[{"destination_name":"b","local_bind_port":1,"datacenter":"dc2"}]}}}}`,
		[]string{`x.json:1:101: service.connect.proxy.upstreams.datacenter: "dc2": other data centres aren't reached; leave it out`}},
	{"a second port behind the sidecar", "x.json", `{"service":{"name":"a","port":80,"connect":{"sidecar_service":{"proxy":{"local_service_port":9000}}}}}`,
		[]string{`x.json:1:73: local_service_port 9000 isn't the service's port 80: tacit has no second port; set service.port to the one the program listens on`}},
	{"a sidecar's own registration", "x.json", `{"service":{"name":"a-sidecar-proxy","kind":"connect-proxy"}}`,
		[]string{`x.json:1:38: service.kind: connect-proxy: tacit needs no sidecars; remove this service and write its upstreams in the other's connect.sidecar_service.proxy.upstreams`}},
	{"two workloads", "x.hcl", "service {\n name = \"a\"\n workload {\n  uid = 7\n  cgroup = \"/x\"\n }\n}",
		[]string{`x.hcl:3:2: service.workload: give only one of cgroup, systemd_unit, uid, netns, container and interface`}},
	{"client_address", "x.json", `{"service":{"name":"a","client_address":"localhost"}}`,
		[]string{`x.json:1:24: service.client_address: "localhost": must be service, client, loopback or proxy_protocol`}},
	{"mode", "x.json", `{"service":{"name":"a","mode":"open"}}`,
		[]string{`x.json:1:24: service.mode: "open": must be strict or permissive`}},
	{"balance and retry", "x.json", `{"service":{"name":"a","balance":"fair","retry":"twice"}}`,
		[]string{`x.json:1:24: service.balance: "fair": must be one of least, round_robin, weighted, hash`,
			`x.json:1:41: service.retry: "twice": must be one of unanswered, connect, never`}},
	{"a name for an address", "x.json", `{"service":{"name":"a","address":"db.example"}}`,
		[]string{`x.json:1:24: service.address: "db.example": must be an IP address; leave it out for the node's own`}},
	{"meta keys", "x.json", `{"service":{"name":"a","meta":{"a.b":"c"}}}`,
		[]string{`x.json:1:24: service.meta: key "a.b": must be 1 to 128 letters, digits, - or _`}},
	{"meta values", "x.json", `{"service":{"name":"a","meta":{"k":"` + strings.Repeat("v", 513) + `"}}}`,
		[]string{`x.json:1:24: service.meta: value of "k": 513 bytes, at most 512`}},
	{"an ingress with a misspelt key", "x.hcl", "ingress {\n name = \"a\"\n prot = 1\n service = \"web\"\n}",
		[]string{`x.hcl:3:2: ingress.prot: unknown key; did you mean port?`, `x.hcl:1:1: ingress.port: missing`}},
	{"an empty ingress", "x.hcl", `ingress {}`,
		[]string{`x.hcl:1:1: ingress.name: missing`, `x.hcl:1:1: ingress.port: missing`, `x.hcl:1:1: ingress.service: missing`}},
	{"an ingress that can't listen", "x.json", "{\"ingress\": {\"name\":\"a\",\n\"address\":\"eth0\",\n\"port\":0,\n\"service\":\"web\"}}",
		[]string{`x.json:2:1: ingress.address: "eth0": must be an IP address of this node; leave it out for all of them`,
			`x.json:3:1: ingress.port: 0: must be a whole number from 1 to 65535`}},
	{"an ingress with the name of one", "x.json", `{"ingress":{"name":"ingress/a","port":1,"service":"ingress/b"}}`,
		[]string{`x.json:1:13: ingress.name: name "ingress/a": only letters, digits and hyphens are allowed`,
			`x.json:1:41: ingress.service: name "ingress/b": only letters, digits and hyphens are allowed`}},
	{"an ingress twice", "x.hcl", "ingress {\n name = \"a\"\n port = 1\n service = \"web\"\n}\ningress {\n name = \"A\"\n port = 2\n service = \"web\"\n}",
		[]string{`x.hcl:6:1: ingress/a is defined in x.hcl:1 already; give one of them another name`}},
	{"a namespace", "x.json", `{"service":{"name":"a","namespace":"team"}}`,
		[]string{`x.json:1:24: service.namespace: "team": there is only the default one; leave it out`}},
}

func TestRefused(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			defs, problems := definition.Parse(tt.file, []byte(tt.text))
			if len(defs) != 0 {
				t.Errorf("a bad file must define nothing, got %+v", defs)
			}
			for i, p := range problems {
				got := p.Error()
				if i >= len(tt.want) || !matches(got, tt.want[i]) || strings.Contains(got, "\n") {
					t.Errorf("unexpected: %s", got)
				}
			}
			if len(problems) < len(tt.want) {
				t.Errorf("want %d problems, got %d", len(tt.want), len(problems))
			}
		})
	}
}

// matches compares with a text in which each * stands for anything.
func matches(got, want string) bool {
	parts := strings.Split(want, "*")
	rest, ok := strings.CutPrefix(got, parts[0])
	for _, part := range parts[1:] {
		i := strings.Index(rest, part)
		if !ok || i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return ok && (rest == "" || strings.HasSuffix(want, "*"))
}

func FuzzParse(f *testing.F) {
	for _, tt := range accepted {
		f.Add(tt.text, strings.HasSuffix(tt.file, ".json"))
	}
	for _, tt := range refused {
		f.Add(tt.text, strings.HasSuffix(tt.file, ".json"))
	}
	f.Fuzz(func(t *testing.T, text string, isJSON bool) {
		file := "f.hcl"
		if isJSON {
			file = "f.json"
		}
		defs, problems := definition.Parse(file, []byte(text))
		if len(defs) > 0 && len(problems) > 0 {
			t.Fatal("both definitions and problems")
		}
		for i := range defs {
			if err := defs[i].Check(); err != nil && defs[i].Ingress == nil {
				t.Fatalf("accepted from a file, refused by Check: %v", err)
			}
		}
	})
}
