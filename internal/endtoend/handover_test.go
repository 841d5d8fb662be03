// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestTakeOver: new processes take over on both ends of live streams, under new
// connections, one of them at the second try, with maps of a smaller and a larger layout. Nothing fails, nothing breaks, and a deny
// given afterwards still cuts the streams that the old processes carry. Who is denied is
// so all the time, through the mesh and past it, and metrics are served all the time.
func TestTakeOver(t *testing.T) {
	streams, interval := "20", "20"
	if os.Getenv("TACIT_SOAK") != "" {
		streams, interval = "200", "5"
	}
	const metrics = "127.0.0.1:9464"
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "feed"}, Flags: []string{"--metrics", metrics}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	host2.StartAs(t, "db", host2.Bin("probe"), "listen", "0.0.0.0:7000")
	host2.StartAs(t, "feed", host2.Bin("probe"), "streams-listen", "0.0.0.0:7001")
	for service, port := range map[string]int{"db": 7000, "feed": 7001} {
		host2.AwaitListener(t, port)
		host2.Tacit(t, "service", "register", service, "--port", fmt.Sprint(port))
		host1.Tacit(t, "intention", "allow", "web", service, "--wait")
	}
	db, _ := host1.Virtual(t, "db")
	feed, _ := host1.Virtual(t, "feed")
	long := host1.StartAs(t, "web", host1.Bin("probe"), "streams", feed.String()+":7001", streams, "talk")
	testhost.Eventually(t, 10*time.Second, "the streams are open", func() error {
		if out := long.Output(); !strings.Contains(out, "open "+streams) {
			return errors.New(out)
		}
		return nil
	})
	calls := host1.StartAs(t, "web", host1.Bin("probe"), "echo-calls", db.String()+":7000", interval, "6")
	denied := []*testhost.Process{host1.StartAs(t, "mallory", host1.Bin("probe"), "echo-calls", db.String()+":7000", interval, "6")}
	for _, h := range m.Nodes {
		denied = append(denied, h.Start(t, "user", h.Bin("probe"), "echo-calls", host2.Addr.String()+":7000", "100", "6"))
	}
	scrapes := host1.Start(t, "init", host1.Bin("probe"), "calls", metrics, "20", "metrics")
	if out, exit := host2.Tacitd(t, "--take-over", "--address", "192.0.2.1"); exit == 0 || !strings.Contains(out, "this host doesn't have the address") {
		t.Errorf("a process that can't open the lane port: exit %d, %s", exit, out)
	}
	var earlier []*testhost.Daemon
	for _, next := range []struct {
		host       *testhost.Host
		intentions string // the maps' layout
	}{{host2, "4096"}, {host1, "4096"}, {host2, "8192"}} {
		earlier = append(earlier, next.host.TakeOver(t, "--metrics", metrics, "--max-intentions", next.intentions))
	}
	calls.Wait(t, 30*time.Second)
	if out := calls.Output(); !strings.Contains(out, " failed=0 ") {
		t.Errorf("calls: %s", out)
	}
	for _, p := range denied {
		p.Wait(t, 30*time.Second)
		if made, failed := callsMade(t, p.Output()); made < 50 || made != failed {
			t.Errorf("%d of %d denied calls failed", failed, made)
		}
	}
	scrapes.Signal(syscall.SIGTERM)
	scrapes.Wait(t, 20*time.Second)
	if out := scrapes.Output(); strings.Contains(out, "connect") {
		t.Errorf("scrapes: %s", out)
	}
	if out := long.Output(); strings.Contains(out, "ended") {
		t.Errorf("long streams: %s", out)
	}
	for _, h := range m.Nodes {
		if out := h.Tacit(t, "status"); !strings.Contains(out, "carries "+streams+" streams") {
			t.Errorf("%s: the status doesn't tell of the earlier process:\n%s", h.Name, out)
		}
	}

	host1.Tacit(t, "intention", "deny", "web", "feed", "--wait")
	testhost.Eventually(t, time.Second, "the streams are cut", func() error {
		if out := long.Output(); !strings.Contains(out, "ended reset="+streams) {
			return errors.New(out)
		}
		return nil
	})
	for _, d := range earlier {
		if code := d.Wait(t, 10*time.Second); code != 0 {
			t.Errorf("an earlier process ended with %d", code)
		}
	}
}

// callsMade is what echo-calls prints at its end.
func callsMade(t *testing.T, out string) (made, failed int) {
	t.Helper()
	_, last, _ := strings.Cut(out, "calls=")
	if _, err := fmt.Sscanf(last, "%d failed=%d", &made, &failed); err != nil {
		t.Errorf("%q: %v", out, err)
	}
	return made, failed
}
