// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/definition"
)

func TestCheck(t *testing.T) {
	d := definition.Definition{Name: "DB", Address: "::ffff:192.0.2.1"}
	if err := d.Check(); err != nil || d.Name != identity.MustName("db") || d.ID != "db" || d.Weight != 1 || d.Address != "192.0.2.1" {
		t.Errorf("%+v, %v", d, err)
	}
	for want, bad := range map[string]definition.Definition{
		"id":        {Name: "a", ID: "a/b"},
		"address":   {Name: "a", Address: "0.0.0.0"},
		"weight":    {Name: "a", Weight: -1},
		"upstreams": {Name: "a", Upstreams: []definition.Upstream{{Destination: "b"}}},
		"workload":  {Name: "a", Workload: definition.Workload{Cgroup: "/a", NetNS: "b"}},
		"tags":      {Name: "a", Tags: []string{""}},
	} {
		if err := bad.Check(); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
