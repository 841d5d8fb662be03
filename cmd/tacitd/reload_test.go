// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"tacit/node"
)

// TestReload: the log's settings change while the daemon runs, every other change
// is named, a flag on the command line stays, and a bad file changes nothing.
func TestReload(t *testing.T) {
	file := write(t, "tacitd.hcl", "log_level = \"info\"\n")
	var cfg node.Config
	var o options
	root := rootCommandOf(&o, func(_ context.Context, c node.Config) error { cfg = c; return nil })
	root.SetArgs([]string{"--config", file, "--lane-port", "7000", "--exclude-port", "22", "--address", "192.0.2.1"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ text, want string }{
		{"log_level = \"info\"\n", ""},
		{"log_level = \"debug\"\nlane_port = 8000\n", `level=INFO msg="log changed" log_level=debug log_format=text`},
		{"log_level = \"debug\"\ngossip_port = 8000\nexclude { uids = [7] }\ndomain = [\"corp\"]\n",
			`level=WARN msg="domain changed: restart tacitd to apply"
level=WARN msg="exclude.uids changed: restart tacitd to apply"
level=WARN msg="gossip_port changed: restart tacitd to apply"`},
		{"log_level = \"error\"\nlog_levl = 1\n", `level=ERROR msg="config not reloaded, the running settings stay" err="config: FILE:2: log_levl: no such setting; tacitd --help lists them"`},
		{"log_level = \"loud\"\n", `level=ERROR msg="config not reloaded, the running settings stay" err="--log-level \"loud\": debug, info, warn or error"`},
		{"redirect = \"none\"\n", `level=ERROR msg="config not reloaded, the running settings stay" err="--redirect \"none\": give auto, sockets or tproxy"`},
		{"", `level=INFO msg="log changed" log_level=info log_format=text`},
	} {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cfg.Reload.Config(o.log.logger(&out))
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), file, "FILE"), " ")
			got = append(got, rest)
		}
		if text := strings.Join(got, "\n"); text != step.want {
			t.Errorf("%s:\ngot  %s\nwant %s", step.text, text, step.want)
		}
	}
}
