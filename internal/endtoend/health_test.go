// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// server starts a program of the service db, which sends the host's name to every
// caller, and waits until it listens.
func server(t *testing.T, h *testhost.Host, addr string) *testhost.Process {
	t.Helper()
	p := h.Start(t, testhost.WorkloadCgroup("db"), h.Bin("probe"), "listen", addr, h.Name)
	for end := time.Now().Add(30 * time.Second); !strings.Contains(p.Output(), "listening on"); {
		if time.Now().After(end) {
			t.Fatalf("%s doesn't listen on %s: %s", h.Name, addr, p.Output())
		}
		<-time.After(time.Millisecond)
	}
	return p
}

// kill returns when the program has ended.
func kill(p *testhost.Process) {
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}

// health is what `tacit service show` says on a host about the instances of db.
func health(t *testing.T, h *testhost.Host) string {
	t.Helper()
	var s struct {
		Instances []struct {
			ID, Node, Down string
			Healthy        bool
		}
	}
	out, why, code := h.Output(t, "", h.Bin("tacit"), "service", "show", "db", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		return why // until this node has been told of db
	}
	var all []string
	for _, i := range s.Instances {
		all = append(all, fmt.Sprintf("%s on %s %v%s", i.ID, i.Node, i.Healthy, i.Down))
	}
	return strings.Join(all, ", ")
}

// everywhere waits until all nodes say the same about db's health.
func everywhere(t *testing.T, m *testhost.Mesh, want string) {
	t.Helper()
	for _, h := range m.Nodes {
		testhost.Eventually(t, 5*time.Second, "db on "+h.Name, func() error {
			if got := health(t, h); got != want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
}

// refusedFor calls db as web by each of its addresses: connect() itself is refused,
// and the daemon says why.
func refusedFor(t *testing.T, h *testhost.Host, reason string, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		before := refusals(t, h)[reason]
		out, _ := h.RunAs(t, "web", h.Bin("probe"), "connect", addr)
		if strings.TrimSpace(out) != "connect: ECONNREFUSED" {
			t.Errorf("%s: %s: %s", h.Name, addr, out)
		}
		if n := refusals(t, h)[reason] - before; n != 1 {
			t.Errorf("%s: %s: %d refusals with the reason %s", h.Name, addr, n, reason)
		}
	}
}

// refusals are the node's counters.
func refusals(t *testing.T, h *testhost.Host) map[string]int {
	t.Helper()
	var s struct{ Counters map[string]int }
	out, _ := h.TryTacit(t, "status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s.Counters
}

// virtual are the virtual addresses of db, with a port.
func virtual(t *testing.T, h *testhost.Host, port string) []string {
	t.Helper()
	var s struct{ Virtual4, Virtual6 string }
	out := h.Tacit(t, "service", "show", "db", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Virtual4 == "" {
		t.Fatalf("%v: %s", err, out)
	}
	all := []string{s.Virtual4 + port}
	if s.Virtual6 != "" {
		all = append(all, "["+s.Virtual6+"]"+port)
	}
	return all
}

// TestNoHealthyInstance: connect() is refused with the reason instance while no
// instance is healthy, on its own node and on others, by virtual and real addresses
// and by an explicit upstream, for a service that never had a listener and for one
// whose listener has ended. The name resolves all the same.
func TestNoHealthyInstance(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db", "web"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	for _, h := range m.Nodes {
		h.Tacit(t, "service", "register", "web", "--upstream", "db=12000")
	}
	host2.MakeWorkload(t, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	real := host2.Addr.String() + ":8000"
	all := func(ports ...string) {
		t.Helper()
		for _, h := range m.Nodes {
			addrs := []string{real, "127.0.0.1:12000"}
			if h == host2 {
				addrs = append(addrs, "127.0.0.1:8000")
			}
			for _, port := range ports {
				addrs = append(addrs, virtual(t, h, port)...)
			}
			refusedFor(t, h, "instance", addrs...)
			if out, exit := h.RunAs(t, "web", "getent", "ahosts", "db"); exit != 0 || !strings.Contains(out, strings.TrimSuffix(virtual(t, h, "")[0], ":")) {
				t.Errorf("%s: the name doesn't resolve: %s", h.Name, out)
			}
		}
	}
	everywhere(t, m, "db on host2 falselistener")
	all(":8000", ":80", ":443")

	p := server(t, host2, "127.0.0.1:8000")
	everywhere(t, m, "db on host2 true")
	for _, h := range m.Nodes {
		for _, addr := range append(virtual(t, h, ":8000"), real, "127.0.0.1:12000") {
			if h == host2 && addr == real {
				continue // the program listens on 127.0.0.1 only
			}
			if out, _ := h.RunAs(t, "web", h.Bin("probe"), "ask", addr, ""); out != "host2" {
				t.Errorf("%s: %s: %s", h.Name, addr, out)
			}
		}
	}
	kill(p)
	everywhere(t, m, "db on host2 falselistener")
	all(":8000", ":80", ":443")

	host2.Tacit(t, "service", "register", "db", "--id", "db-admin", "--port", "9000")
	p = server(t, host2, "127.0.0.1:9000")
	everywhere(t, m, "db on host2 falselistener, db-admin on host2 true")
	for _, h := range m.Nodes {
		refusedFor(t, h, "instance", virtual(t, h, ":8000")...)
		refusedFor(t, h, "port", virtual(t, h, ":7000")...)
	}
	kill(p)
}

// TestOneOfTwo: when the program of one of two instances ends, all calls go to the
// other, from its own node too.
func TestOneOfTwo(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "web"}})
	host1 := m.Nodes[0]
	running := map[string]*testhost.Process{}
	for _, h := range m.Nodes[1:] {
		h.MakeWorkload(t, "db")
		h.Tacit(t, "service", "register", "db", "--port", "8000")
		running[h.Name] = server(t, h, "127.0.0.1:8000")
	}
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	everywhere(t, m, "db on host2 true, db on host3 true")
	kill(running["host2"])
	everywhere(t, m, "db on host2 falselistener, db on host3 true")
	for _, h := range m.Nodes {
		h.MakeWorkload(t, "web")
		at := virtual(t, h, ":8000")[0]
		for n := range 20 {
			if out, _ := h.Run(t, testhost.WorkloadCgroup("web"), h.Bin("probe"), "ask", at, ""); out != "host3" {
				t.Errorf("call %d on %s: %q", n, h.Name, out)
			}
		}
	}
}

// TestTimes: how long it takes from the end of a program until the kernel map of
// its own node, and of the last node, leads nobody to it any more; and from the
// moment when it listens until the maps do. With TACIT_SOAK=1 in 20 rounds.
func TestTimes(t *testing.T) {
	rounds := 4
	if os.Getenv("TACIT_SOAK") != "" {
		rounds = 20
	}
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db"}})
	own := m.Nodes[1]
	own.MakeWorkload(t, "db")
	own.Tacit(t, "service", "register", "db", "--port", "8000")
	everywhere(t, m, "db on host2 falselistener")
	var times [4][]time.Duration
	pace := time.NewTicker(600 * time.Millisecond) // a node signs an instance four times a second at most
	defer pace.Stop()
	for range rounds {
		<-pace.C
		p := server(t, own, "127.0.0.1:8000")
		here, all := leads(t, m, own, true)
		times[2], times[3] = append(times[2], here), append(times[3], all)
		<-pace.C
		p.Signal(syscall.SIGKILL)
		here, all = leads(t, m, own, false)
		times[0], times[1] = append(times[0], here), append(times[1], all)
	}
	for i, c := range []struct {
		what string
		goal time.Duration
	}{{"killed, own node", 500 * time.Millisecond}, {"killed, last node", time.Second}, {"listens, own node", 500 * time.Millisecond}, {"listens, last node", time.Second}} {
		slices.Sort(times[i])
		p50, most := times[i][len(times[i])/2], times[i][len(times[i])-1]
		t.Logf("%s: p50 %s, max %s", c.what, p50.Round(100*time.Microsecond), most.Round(100*time.Microsecond))
		if p50 > c.goal || most > 3*c.goal { // the machine may have other things to do
			t.Errorf("%s: p50 %s, max %s; want at most %s", c.what, p50, most, c.goal)
		}
	}
}

// leads waits until the kernel maps of all nodes lead to db's port, or don't, and
// returns how long that took on its own node and on all.
func leads(t *testing.T, m *testhost.Mesh, own *testhost.Host, want bool) (here, all time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		same := 0
		for _, h := range m.Nodes {
			at, elsewhere := h.Serves(t, 8000)
			switch {
			case h == own && at == want && here == 0:
				here = time.Since(began)
				same++
			case h == own && at == want, h != own && elsewhere == want:
				same++
			}
		}
		if same == len(m.Nodes) {
			return here, time.Since(began)
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("after 10 s the maps of %d of %d nodes lead to db is %v", same, len(m.Nodes), want)
		}
		<-time.After(time.Millisecond)
	}
}
