// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"tacit/node/definition"
)

// TestOutside: what an outside block means.
func TestOutside(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`hosts = ["DB.abc.rds.Example."]`, `{"hosts":["db.abc.rds.example"]}`},
		{`addresses = ["203.0.113.5", "[2001:db8::5]:5433", "2001:db8::6", "203.0.113.7:99"] reach = "here"`,
			`{"addresses":["203.0.113.5:5432","[2001:db8::5]:5433","[2001:db8::6]:5432","203.0.113.7:99"]}`},
		{`hosts = ["a.example"] addresses = ["::ffff:10.0.0.1"] reach = "any"`, `{"hosts":["a.example"],"addresses":["10.0.0.1:5432"],"anywhere":true}`},
	} {
		defs, problems := definition.Parse("rds.hcl", []byte("service {\n name = \"rds\"\n outside { "+tt.text+" }\n port = 5432\n}"))
		if len(problems) > 0 || len(defs) != 1 {
			t.Errorf("%s: %v", tt.text, problems)
			continue
		}
		if got, _ := json.Marshal(defs[0].Outside); string(got) != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// TestOutsideRefused: each bad service beside what is said about it.
func TestOutsideRefused(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`port = 1 outside { }`, `2:10: service.outside: give hosts or addresses`},
		{`outside { hosts = ["a.example"] }`, `2:1: service.port: missing: an outside service has the port by which it is called`},
		{`port = 1 outside { host = "a.example" }`, `2:20: service.outside.host: unknown key; did you mean hosts?`},
		{`port = 1 outside { hosts = "a.example" }`, `2:20: service.outside.hosts: want a list, not text`},
		{`port = 1 outside { hosts = ["db"] }`, `2:29: service.outside.hosts: host "db": must be a name with a dot, of at most 200 bytes, such as db.example.com`},
		{`port = 1 outside { hosts = ["10.0.0.1"] }`, `2:29: service.outside.hosts: host "10.0.0.1": is an address, or may be taken for one`},
		{`port = 1 outside { hosts = ["a..example"] }`, `2:29: service.outside.hosts: host "a..example": "" is not 1 to 63 letters*`},
		{`port = 1 outside { addresses = ["a.example:5"] }`, `2:33: service.outside.addresses: "a.example:5": must be an IP address, or one with a port; names belong into hosts`},
		{`port = 1 outside { addresses = ["203.0.113.5:0"] }`, `2:33: service.outside.addresses: "203.0.113.5:0": the port must be 1 to 65535`},
		{`port = 1 outside { addresses = ["127.0.0.1"] }`, `2:33: service.outside.addresses: 127.0.0.1 is a loopback address`},
		{`port = 1 outside { addresses = ["[::ffff:127.0.0.1]:9"] }`, `2:33: service.outside.addresses: 127.0.0.1 is a loopback address`},
		{`port = 1 outside { addresses = ["0.0.0.0"] }`, `2:33: service.outside.addresses: 0.0.0.0 is no address`},
		{`port = 1 outside { addresses = ["169.254.169.254:80"] }`, `2:33: service.outside.addresses: 169.254.169.254 is a link-local address, where the host's metadata service may be`},
		{`port = 1 outside { addresses = ["fe80::1%eth0"] }`, `2:33: service.outside.addresses: fe80::1%eth0 is a link-local address*`},
		{`port = 1 outside { addresses = ["ff02::1"] }`, `2:33: service.outside.addresses: ff02::1 is not one host's address`},
		{`port = 1 outside { addresses = ["255.255.255.255"] }`, `2:33: service.outside.addresses: 255.255.255.255 is not one host's address`},
		{`port = 1 outside { hosts = ["a.example"] reach = "all" }`, `2:42: service.outside.reach: "all": must be one of here, any`},
		{`port = 1 workload { uid = 7 } outside { hosts = ["a.example"] }`, `2:10: service.workload: has no meaning with outside: no program of this node is the service`},
		{`port = 1 address = "10.0.0.1" outside { hosts = ["a.example"] }`, `2:10: service.address: has no meaning with outside: *`},
		{`port = 1 mode = "permissive" outside { hosts = ["a.example"] }`, `2:10: service.mode: permissive has no meaning with outside: *`},
		{`port = 1 outside { hosts = ["a.example"] } client_address = "loopback"`, `2:44: service.client_address: an outside service sees this node's own address: leave it out, or use proxy_protocol`},
		{`port = 1 outside { hosts = ["a.example"] } client_address = "client"`, `2:44: service.client_address: an outside service sees this node's own address: leave it out, or use proxy_protocol`},
		{`port = 1 outside { hosts = ["a.example"] } check { http = "https://b.example/" interval = "1s" }`, `2:52: service.check.http: b.example isn't this service: write one of its hosts or addresses`},
		{`port = 1 outside { hosts = ["a.example"] } check { tcp = "localhost:1" interval = "1s" }`, `2:52: service.check.tcp: localhost isn't this service: *`},
		{`port = 1 outside { hosts = ["a.example"] } check { http = "https://A.example/" interval = "1s" }`, `2:52: service.check.http: port 443: a check of an outside service reaches its own port 1`},
		{`port = 1 outside { hosts = [` + strings.Repeat(`"a.example",`, 33) + `] }`, `2:10: service.outside: 33 hosts and 0 addresses: at most 32 of each`},
	} {
		text := "service { name = \"rds\"\n" + tt.text + "\n}"
		if defs, problems := definition.Parse("x.hcl", []byte(text)); len(defs) > 0 || len(problems) != 1 || !matches(problems[0].Error(), "x.hcl:"+tt.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.text, problems, tt.want)
		}
	}
}
