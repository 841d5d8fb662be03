// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tacit/node/config"
)

// TestFilesAreLogged: a line for each service that a file adds, changes or removes,
// and for each new problem; asked to reload, also for the old ones.
func TestFilesAreLogged(t *testing.T) {
	h := newHost(t, config.Exclude{})
	var out bytes.Buffer
	h.conf.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	const refused = `msg="service file refused, its last good version stays in force" at=DIR/a.hcl:1 err="DIR/a.hcl:1:27: service.port: 70000: must be a whole number from 0 to 65535"`
	for _, step := range []struct {
		text   string
		reload func()
		want   string
	}{
		{`service { name = "web" port = 80 }`, h.reload, "msg=\"service loaded\" service=web id=web file=DIR/a.hcl:1"},
		{`service { name = "web" port = 80 }`, h.reload, ""},
		{`service { name = "web" port = 81 tags = ["x"] }`, h.reload, "msg=\"service changed\" service=web id=web file=DIR/a.hcl:1 changed=\"port, tags\""},
		{`service { name = "web"  port = 70000 }`, h.reload, strings.Replace(refused, ":27:", ":25:", 1)},
		{`service { name = "web"  port = 70000 }`, h.reload, ""},
		{`service { name = "web"  port = 70000 }`, h.Reload, strings.Replace(refused, ":27:", ":25:", 1)},
		{`service { name = "db" }`, h.reload, "msg=\"service loaded\" service=db id=db file=DIR/a.hcl:1\nmsg=\"service removed\" service=web id=web file=DIR/a.hcl:1"},
	} {
		h.write("a.hcl", step.text)
		out.Reset()
		step.reload()
		if got := strings.TrimSpace(strings.ReplaceAll(out.String(), h.dir, "DIR")); got != step.want {
			t.Errorf("%s:\ngot  %s\nwant %s", step.text, got, step.want)
		}
	}
}
