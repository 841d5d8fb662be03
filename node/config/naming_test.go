// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"testing"
)

// TestNaming: what names may be called, and what an error says.
func TestNaming(t *testing.T) {
	for _, c := range []struct {
		datacenter, search string
		want               string
	}{
		{"dc1", "corp.example", "<nil>"},
		{"DC-2", "Corp.Example.", "<nil>"},
		{"", "lan", "<nil>"},
		{"a.b", "lan", `--datacenter: name "a.b": only letters, digits and hyphens are allowed`},
		{"Service", "lan", "--datacenter service: has a meaning of its own in Consul's names; give another name, such as dc1"},
		{"dc1", "", `--search "": not a DNS domain such as corp.example: name "": 0 bytes; 1 to 63 are allowed`},
		{"dc1", "a..b", `--search "a..b": not a DNS domain such as corp.example: name "": 0 bytes; 1 to 63 are allowed`},
	} {
		if got := fmt.Sprint(Naming{Datacenter: c.datacenter, Search: []string{c.search}}.check()); got != c.want {
			t.Errorf("%+v\ngot  %s\nwant %s", c, got, c.want)
		}
	}
}
