// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestNamesUnderLoad: 20,000 queries a second of one cgroup cost another one no answer,
// neither of the mesh nor of the host's resolver. How long the answers take is
// printed; only the soak fails where they aren't quick.
func TestNamesUnderLoad(t *testing.T) {
	const rate, limit = 20000, 50 * time.Millisecond // queries a second; of the slowest hundredth
	net := testhost.NewNet(t)
	host, resolver := net.Host(t, "host1"), net.Host(t, "resolver")
	script, err := filepath.Abs("testdata/names.py")
	testhost.Must(t, err)
	resolver.Start(t, "user", testhost.Python(), script, resolver.Addr.String())
	host.SetResolvConf(t, fmt.Sprintf("nameserver %s\n", resolver.Addr))
	load := filepath.Join(host.Dir, "load")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", load, "testdata/load/main.go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	host.Daemon(t, "--bootstrap")
	host.Tacit(t, "service", "register", "db", "--port", "8000", "--cgroup", "/db")
	server := resolver.Addr.String() + ":53"
	for _, flood := range []string{"db.mesh", "example.org"} {
		for _, name := range []string{"db.mesh", "example.org"} {
			// Whatever else runs on this machine may disturb a round, but not each.
			testhost.Eventually(t, time.Minute, "quick answers", func() error {
				p := host.Start(t, "greedy", load, "flood", server, fmt.Sprint(rate), "2", flood)
				defer p.Wait(t, 20*time.Second)
				var p50, p99, slowest, lost, failed int
				out, exit := host.Run(t, "modest", load, "measure", server, "150", name)
				if _, err := fmt.Sscanf(out, "p50 %d µs, p99 %d µs, max %d µs, lost %d, failed %d", &p50, &p99, &slowest, &lost, &failed); err != nil || exit != 0 {
					t.Fatalf("exit %d, %v: %s", exit, err, out)
				}
				t.Logf("flood of %s, %s: %s", flood, name, out)
				if late(time.Duration(p99)*time.Microsecond, limit) || lost > 0 || failed > 0 {
					return fmt.Errorf("%s during a flood of %s: p99 must be at most %s, and no answer may fail: %s", name, flood, limit, out)
				}
				return nil
			})
		}
	}
}
