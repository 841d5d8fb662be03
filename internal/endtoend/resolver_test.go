// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// resolve applies rules for db's connections on a host, and waits for all nodes.
func resolve(t *testing.T, h *testhost.Host, rules string) string {
	t.Helper()
	file := filepath.Join(h.Dir, "resolver.hcl")
	testhost.WriteFile(t, file, `service_resolver "db" {
	subset "v1" { tag = "v1" }
	subset "v2" { meta = { version = "2" } }
	failover { services = ["db-standby"] }
	`+rules+"\n}\n")
	return h.Tacit(t, "apply", file, "--wait")
}

// banners are the first two bytes that web got on each of n connections from a host.
func banners(t *testing.T, h *testhost.Host, addr string, n int) []string {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	out, _ := h.RunAs(t, "web", "bash", "-c", fmt.Sprintf(`for i in {1..%d}; do { exec 3<>/dev/tcp/%s/%s && read -N2 -t5 -u3 x && echo "$x" || echo lost; } 2>/dev/null; done`, n, host, port))
	return strings.Fields(out)
}

// gets fails unless all connections from a host got the same banner.
func gets(t *testing.T, h *testhost.Host, addr, want string) {
	t.Helper()
	if got := banners(t, h, addr, 20); len(got) != 20 || slices.ContainsFunc(got, func(s string) bool { return s != want }) {
		t.Errorf("%s calls %s: %v, want %s each time", h.Name, addr, got, want)
	}
}

// saysFrom waits until a connection from a host gets the banner.
func saysFrom(t *testing.T, h *testhost.Host, addr, want string) {
	t.Helper()
	testhost.Eventually(t, 10*time.Second, want+" answers "+h.Name, func() error {
		if got := banners(t, h, addr, 1); !slices.Equal(got, []string{want}) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// TestResolver: a split is applied, and changed live, also where an instance is near;
// a service without an instance is answered by its standby, to those who may call
// both, and a deny of either cuts that.
func TestResolver(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "db-standby", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	start := func(h *testhost.Host, service, port, banner string, settings ...string) *testhost.Process {
		t.Helper()
		p := h.StartAs(t, service, h.Bin("probe"), "listen", "0.0.0.0:"+port, banner)
		testhost.AwaitText(t, 10*time.Second, "the program", "listening on", p.Output)
		h.Tacit(t, append([]string{"service", "register", service, "--port", port}, settings...)...)
		return p
	}
	v1 := start(host2, "db", "7000", "v1", "--tag", "v1")
	v2 := start(host3, "db", "7000", "v2", "--meta", "version=2")
	start(host3, "db-standby", "7001", "sb")
	host1.MakeWorkload(t, "web")
	host2.MakeWorkload(t, "web")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	at := map[*testhost.Host]string{}
	for _, h := range []*testhost.Host{host1, host2} {
		virtual, _ := h.Virtual(t, "db")
		at[h] = virtual.String() + ":7000"
	}

	if out := resolve(t, host1, "split { v1 = 90, v2 = 10 }"); !strings.Contains(out, "1 added, 0 changed, 0 removed, 0 unchanged\nin force on 3 of 3 nodes") {
		t.Error(out)
	}
	const calls = 300
	for h, addr := range at { // host2 has a v1 itself
		got := banners(t, h, addr, calls)
		n := 0
		for _, b := range got {
			if b == "v2" {
				n++
			} else if b != "v1" {
				t.Fatalf("%s: %v", h.Name, got)
			}
		}
		if t.Logf("%s: %d of %d calls went to v2", h.Name, n, calls); len(got) != calls || n < 4 || n > 70 { // by chance: 1 in 10⁹
			t.Errorf("%s: %d of %d calls went to v2, want about 30", h.Name, n, len(got))
		}
	}
	resolve(t, host1, "split { v1 = 0, v2 = 100 }")
	for h, addr := range at {
		gets(t, h, addr, "v2")
	}
	gets(t, host2, "127.0.0.1:7000", "v2")
	for name, want := range map[string]string{"v1.db.mesh": "v1", "v2.db.service.consul": "v2", "v1.db.virtual.consul": "v1"} { // whatever the split says
		gets(t, host1, name+":7000", want)
		gets(t, host2, name+":80", want)
	}
	if out := host1.Tacit(t, "resolve", "v1.db.mesh"); !strings.Contains(out, "v1.db.mesh is the subset v1.db") || !strings.Contains(out, "7000") {
		t.Error(out)
	}
	if out := host2.Tacit(t, "service", "show", "db"); !strings.Contains(out, "weight 100, now 100 % of new connections") || !strings.Contains(out, "signed by  host1") {
		t.Error(out)
	}
	file := filepath.Join(host1.Dir, "resolver.hcl")
	if out, exit := host2.TryTacit(t, "apply", file); exit != 1 || !strings.Contains(out, "this node (host2) holds none") {
		t.Errorf("without an operator key: exit %d: %s", exit, out)
	}

	kill(v2) // v1 has no weight
	testhost.Eventually(t, 10*time.Second, "v2 to be down", func() error {
		if out := host1.Tacit(t, "service", "show", "db"); !strings.Contains(out, "0 of 1 healthy; weight 100") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	refusedFor(t, host1, "instance", at[host1]) // nobody here may call the standby
	host1.Tacit(t, "intention", "allow", "web", "db-standby", "--wait")
	for h, addr := range at {
		saysFrom(t, h, addr, "sb")
		gets(t, h, addr, "sb")
	}
	kill(v1)
	resolve(t, host1, "")
	gets(t, host1, at[host1], "sb")

	for _, denied := range []string{"db-standby", "db"} {
		live := talkTo(t, host1, at[host1])
		if f := liveFlow(t, host1); f.Destination != "db-standby" || f.For != "db" {
			t.Errorf("live: %+v", f)
		}
		host1.Tacit(t, "intention", "deny", "web", denied, "--wait")
		live.Wait(t, 10*time.Second)
		for _, addr := range []string{at[host1], "v1.db.mesh:7000"} {
			if got := banners(t, host1, addr, 1); !slices.Equal(got, []string{"lost"}) {
				t.Errorf("%s is denied: %s: %v", denied, addr, got)
			}
		}
		host1.Tacit(t, "intention", "allow", "web", denied, "--wait")
	}
	live := talkTo(t, host1, at[host1])
	host2.StartAs(t, "db", host2.Bin("probe"), "listen", "0.0.0.0:7000", "v1")
	saysFrom(t, host1, at[host1], "v1")
	gets(t, host1, at[host1], "v1")
	talks(t, live, strings.Count(live.Output(), "ping")+3) // what has begun stays
}

// talkTo starts a caller that prints a line for every line that comes back.
func talkTo(t *testing.T, h *testhost.Host, addr string) *testhost.Process {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	p := h.StartAs(t, "web", "bash", "-c", fmt.Sprintf(
		`exec 3<>/dev/tcp/%s/%s; while sleep .05; do echo ping >&3 && read -t5 -u3 x || exit 1; echo "$x"; done`, host, port))
	talks(t, p, 3)
	return p
}

type flow struct {
	Destination, For string
	Live             bool
}

// liveFlow is the one connection that a host carries.
func liveFlow(t *testing.T, h *testhost.Host) flow {
	t.Helper()
	var list struct{ Flows []flow }
	testhost.Must(t, json.Unmarshal([]byte(h.Tacit(t, "flows", "--json")), &list))
	live := slices.DeleteFunc(list.Flows, func(f flow) bool { return !f.Live })
	if len(live) != 1 {
		t.Fatalf("%d live connections", len(live))
	}
	return live[0]
}
