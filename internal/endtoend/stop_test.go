// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestStoppingNodeServesToItsEnd: other nodes choose another instance as soon as a
// daemon is told to stop. Where there is none, its own serves until the live streams
// have ended, also callers beside it: nobody is refused meanwhile.
func TestStoppingNodeServesToItsEnd(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "only", "far", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	for _, h := range []*testhost.Host{host2, host3} {
		h.StartAs(t, "db", h.Bin("probe"), "listen", "0.0.0.0:7000", h.Name)
		h.AwaitListener(t, 7000)
		h.Tacit(t, "service", "register", "db", "--port", "7000")
	}
	for h, service := range map[*testhost.Host]string{host2: "only", host3: "far"} {
		h.StartAs(t, service, h.Bin("probe"), "listen", "0.0.0.0:7001")
		h.AwaitListener(t, 7001)
		h.Tacit(t, "service", "register", service, "--port", "7001")
	}
	for _, service := range []string{"db", "only", "far"} {
		host1.Tacit(t, "intention", "allow", "web", service, "--wait")
	}
	db, _ := host1.Virtual(t, "db")
	only, _ := host1.Virtual(t, "only")
	far, _ := host2.Virtual(t, "far")
	long := host1.StartAs(t, "web", "bash", "-c", echoes, only.String())
	talks(t, long, 3)

	const seconds = "2" // less than the time that the long stream keeps the daemon
	alone := host1.StartAs(t, "web", host1.Bin("probe"), "echo-calls", only.String()+":7001", "20", seconds)
	local := host2.StartAs(t, "web", host2.Bin("probe"), "echo-calls", far.String()+":7001", "20", seconds)
	host2.Current(t).Signal(syscall.SIGTERM)
	testhost.Eventually(t, 2*time.Second, "host1 chooses host3", func() error {
		for range 5 {
			if out, _ := host1.Run(t, testhost.WorkloadCgroup("web"), "bash", "-c", "exec 3<>/dev/tcp/$0/7000; head -c5 <&3", db.String()); out != host3.Name {
				return fmt.Errorf("connected to %q", out)
			}
		}
		return nil
	})
	for name, p := range map[string]*testhost.Process{"the only instance": alone, "another node's": local} {
		p.Wait(t, 20*time.Second)
		if out := p.Output(); !strings.Contains(out, " failed=0 ") {
			t.Errorf("calls to %s: %s", name, out)
		}
	}
	host2.Stop(t)
}

// echoes prints a line for every line that comes back.
const echoes = `exec 3<>/dev/tcp/$0/7001; while sleep .05; do echo ping >&3 && read -t5 -u3 x || exit 1; echo "$x"; done`
