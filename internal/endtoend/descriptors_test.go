// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
)

// idle makes connections that send a byte and wait for its echo, keeps them open, and
// prints how many there are and how many were refused.
const idle = `
import signal, socket, sys
held, refused = [], 0
for _ in range(int(sys.argv[2])):
    s = socket.socket()
    s.settimeout(10)
    try:
        s.connect((sys.argv[1], 5432))
        s.sendall(b"x")
        if s.recv(1) != b"x":
            raise OSError("closed")
        held.append(s)
    except OSError:
        refused += 1
print(len(held), refused, flush=True)
signal.pause()
`

// fill holds as many connections as it gets of n, some of which are refused.
func fill(t *testing.T, h *testhost.Host, service, addr string, n int) (p *testhost.Process, held int) {
	t.Helper()
	p = h.StartAs(t, service, testhost.Python(), "-c", idle, addr, fmt.Sprint(n))
	testhost.Eventually(t, 60*time.Second, "connections were tried", func() error {
		var refused int
		if k, _ := fmt.Sscan(p.Output(), &held, &refused); k != 2 || held == 0 || refused == 0 {
			return fmt.Errorf("held and refused: %q", p.Output())
		}
		return nil
	})
	return p, held
}

func setDescriptors(t *testing.T, h *testhost.Host, n uint64) {
	t.Helper()
	testhost.Must(t, unix.Prlimit(h.Current(t).PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 4096}, nil))
}

// use is what status says of what the daemon uses.
type use struct{ Descriptors, Memory struct{ Used, Limit int } }

func useOf(t *testing.T, h *testhost.Host) use {
	t.Helper()
	out, _ := h.TryTacit(t, "status", "--json")
	return jsonOf[use](t, out)
}

// normal waits until status is healthy and a call is answered; the soak says how fast
// that must be.
func normal(t *testing.T, h *testhost.Host, service, addr, when string) {
	t.Helper()
	begin := time.Now()
	testhost.Eventually(t, 10*time.Second, "normal again "+when, func() error {
		return succeeded(h.RunAs(t, service, h.Bin("probe"), "ask", addr+":5432", "x"))
	})
	if took := time.Since(begin); late(took, time.Second) {
		t.Errorf("calls are answered again after %s %s", took, when)
	}
	answered := time.Since(begin)
	testhost.Eventually(t, 10*time.Second, "healthy again "+when, func() error { return succeeded(h.TryTacit(t, "status")) })
	t.Logf("%s: calls are answered after %s, and status is healthy after %s", when, answered.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
}

var volatileInLog = regexp.MustCompile(`^time=\S+ |pid=\d+|\d+`)

// quietLog fails where a daemon has taken its own shortage for the work of others, or
// has said something again and again.
func quietLog(t *testing.T, h *testhost.Host, since time.Time) {
	t.Helper()
	log, said := h.Current(t).Output(), map[string]int{}
	for line := range strings.Lines(log) {
		for _, wrong := range []string{"by others", "in its place", "another program", "restart tacitd", "level=ERROR", "reason=listener"} {
			if strings.Contains(line, wrong) {
				t.Errorf("%s says: %s", h.Name, line)
			}
		}
		said[volatileInLog.ReplaceAllString(line, "#")]++
	}
	for line, n := range said {
		if most := 3 + int(time.Since(since)/(5*time.Second)); n > most {
			t.Errorf("%s says %d times: %s", h.Name, n, line)
		}
	}
}

// TestDescriptorsRunOut: a daemon whose descriptors connections use up refuses further
// ones with the reason limit, on the caller's node and on the program's. It says so in
// status, which it still answers, takes nothing for the work of others, and is as before
// once they end or it may open more.
func TestDescriptorsRunOut(t *testing.T) {
	begin := time.Now()
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}, Prepare: func(m *testhost.Mesh) {
		m.Nodes[0].Starter = []string{"prlimit", "--nofile=256:4096"}
	}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	host2.MakeWorkload(t, "db") // else it may be registered without a port, later
	host2.Tacit(t, "service", "register", "db", "--port", "5432")
	host2.StartAs(t, "db", host2.Bin("probe"), "listen", ":5432")
	host1.MakeWorkload(t, "web")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	virtual, _ := host1.Virtual(t, "db")
	addr := virtual.String()
	normal(t, host1, "web", addr, "before anything")
	if of := useOf(t, host1).Descriptors.Limit; of < 4000 {
		t.Errorf("the daemon may open %d, and didn't raise its limit to 4096", of)
	}

	setDescriptors(t, host2, 256) // host2 runs out
	p, held := fill(t, host1, "web", addr, 150)
	full(t, host2, held)
	refusedForLimit(t, host2, host1)
	setDescriptors(t, host2, 4096) // without the end of any connection
	normal(t, host1, "web", addr, "with more descriptors")
	kill(p)

	setDescriptors(t, host1, 256) // host1 runs out
	p, held = fill(t, host1, "web", addr, 150)
	full(t, host1, held)
	refusedForLimit(t, host1)
	starve(t, host1, host2)
	setDescriptors(t, host1, 256)
	kill(p)
	normal(t, host1, "web", addr, "when the connections have ended")
	for _, h := range m.Nodes {
		quietLog(t, h, begin)
	}
}

// full is a daemon with as many connections as it takes: it answers, and says why it
// takes no more.
func full(t *testing.T, h *testhost.Host, held int) {
	t.Helper()
	statusSays(t, h, "of 256 in use, and 64 are kept free of connections")
	u := useOf(t, h)
	t.Logf("%s holds %d connections with %d of %d descriptors", h.Name, held, u.Descriptors.Used, u.Descriptors.Limit)
	if u.Descriptors.Used < 192-8 || u.Descriptors.Used > 256-16 {
		t.Errorf("%d of %d descriptors are used", u.Descriptors.Used, u.Descriptors.Limit)
	}
	out, _ := h.TryTacit(t, "status")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "FAILED") && !strings.HasPrefix(line, "descriptors") {
			t.Errorf("another check fails: %s", line)
		}
	}
}

// refusedForLimit: the calls that were refused have one reason everywhere, and are in
// the log of the first host, which refused them.
func refusedForLimit(t *testing.T, hosts ...*testhost.Host) {
	t.Helper()
	for _, h := range hosts {
		refusals := 0
		for line := range strings.Lines(h.Tacit(t, "flows")) {
			f := strings.Fields(line)
			if !slices.Contains(f, "web") || slices.Contains([]string{"closed", "live"}, f[len(f)-1]) {
				continue
			}
			if refusals++; f[len(f)-1] != "limit" {
				t.Errorf("%s: %s", h.Name, line)
			}
		}
		if refusals == 0 {
			t.Errorf("%s has no refusal", h.Name)
		}
	}
	testhost.Must(t, contains(hosts[0].Current(t).Output(), "reason=limit"))
}

// starve takes all descriptors from a daemon for a few seconds: it must not use them
// up again by trying, and must not tell others that its programs are gone.
func starve(t *testing.T, h, other *testhost.Host) {
	t.Helper()
	setDescriptors(t, h, 16)
	measure(t, h, 3*time.Second, func() {
		if out := other.Tacit(t, "nodes", "--json"); strings.Count(out, `"alive": true`) != 2 {
			t.Errorf("%s isn't alive: %s", h.Name, out)
		}
	})
}
