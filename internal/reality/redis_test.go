// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// startRedis lets in whoever reaches it.
func startRedis(t *testing.T, f *fixture, s program) {
	dir := f.dir(t, s, map[string]string{"redis.conf": fmt.Sprintf("port %d\nbind * -::*\nprotected-mode no\nsave \"\"\n", s.port)})
	f.serve(t, s, "redis-server", filepath.Join(dir, "redis.conf"), "--dir", dir)
}

func (f *fixture) redis(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		t.Run("benchmark", func(t *testing.T) {
			out := says(t, h, "SET", "redis-benchmark", "-h", "cache", "-n", "2000", "-c", "50", "-d", "1000", "-t", "set,get", "--csv")
			out += says(t, h, "GET", "redis-benchmark", "-h", "cache", "-n", "200", "-c", "10", "-k", "0", "-t", "get", "--csv") // a connection for each
			out += says(t, h, "LPUSH", "redis-benchmark", "-h", "cache", "-n", "2000", "-P", "16", "-t", "lpush", "--csv")
			if n := len(regexp.MustCompile(`(?m)^"(SET|GET|LPUSH)","[1-9]`).FindAllString(out, -1)); n != 4 {
				t.Errorf("%d results, want 4: %s", n, out)
			}
		})
		t.Run("subscribe", func(t *testing.T) {
			session := h.StartAs(t, caller, "redis-cli", "-h", "cache", "subscribe", "news")
			testhost.AwaitText(t, 10*time.Second, "the session subscribes", "subscribe", session.Output)
			says(t, f.remote, "1", "redis-cli", "-h", "cache", "publish", "news", "it works")
			testhost.AwaitText(t, 10*time.Second, "the message", "it works", session.Output)
		})
		t.Run("large value", func(t *testing.T) {
			says(t, h, "OK", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x | redis-cli -h cache -x set large")
			if out := says(t, h, "", "sh", "-c", "redis-cli -h cache get large | wc -c"); strings.TrimSpace(out) != "20000001" {
				t.Errorf("a value of 20,000,000 bytes: %s", out)
			}
		})
	})
}
