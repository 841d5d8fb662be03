// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestIdle: an idle node reports no problem. What it costs is logged. With
// TACIT_SOAK=1 it runs for ten minutes.
func TestIdle(t *testing.T) {
	length := 20 * time.Second
	if os.Getenv("TACIT_SOAK") != "" {
		length = 10 * time.Minute
	}
	host := testhost.NewMesh(t, testhost.MeshOptions{}).Nodes[0]
	measure(t, host, length/4, func() {})
	measure(t, host, length, func() {
		if out, exit := host.TryTacit(t, "status", "--json"); exit != 0 {
			t.Fatalf("a false alarm: exit %d\n%s", exit, out)
		}
	})
}

// measure calls look each second and logs how much CPU the daemon and its
// children used.
func measure(t *testing.T, host *testhost.Host, length time.Duration, look func()) {
	t.Helper()
	before, begin := cpuTime(t, host), time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	looks := 0
	for time.Since(begin) < length {
		<-tick.C
		look()
		looks++
	}
	took := time.Since(begin)
	used := cpuTime(t, host) - before
	t.Logf("%d rounds in %s: %s of CPU per minute (%.2f %% of one)", looks, took.Round(time.Second),
		time.Duration(float64(used)*float64(time.Minute)/float64(took)).Round(time.Millisecond), 100*used.Seconds()/took.Seconds())
}

// cpuTime is the CPU time of all processes in the daemon's own cgroups.
func cpuTime(t *testing.T, host *testhost.Host) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(host.CgroupPath("tacit"), "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	var usec int64
	if _, err := fmt.Sscanf(strings.TrimSpace(string(text)), "usage_usec %d", &usec); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usec) * time.Microsecond
}
