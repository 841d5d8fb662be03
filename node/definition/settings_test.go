// SPDX-License-Identifier: Apache-2.0

package definition_test

import (
	"fmt"
	"strings"
	"testing"

	"tacit/node/definition"
)

// TestSettings: every setting of a file is remembered with its line.
func TestSettings(t *testing.T) {
	defs, problems := definition.Parse("web.hcl", []byte(`service {
  name = "web"
  port = 80
  tags = ["a", "b"]
  meta { owner = "ops" }
  token = "42"
  check { ttl = "1s" }
  connect { sidecar_service { proxy {
    upstreams { destination_name = "db"
      local_bind_port = 5432 }
    upstreams { destination_name = "cache" local_bind_port = 6379 }
  } } }
}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, s := range defs[0].Settings {
		got = append(got, fmt.Sprintf("%s: %s = %s", s.Source, s.Key, s.Value))
	}
	const up = "connect.sidecar_service.proxy.upstreams."
	want := "web.hcl:2: name = web\nweb.hcl:3: port = 80\nweb.hcl:4: tags = a, b\nweb.hcl:5: meta.owner = ops\nweb.hcl:6: token = (a secret)\n" +
		"web.hcl:9: " + up + "destination_name = db\nweb.hcl:10: " + up + "local_bind_port = 5432\n" +
		"web.hcl:11: " + up + "destination_name = cache\nweb.hcl:11: " + up + "local_bind_port = 6379"
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
