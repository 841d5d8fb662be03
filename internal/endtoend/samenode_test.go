// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// sameNodeKinds are the callers of sameNodeServers, in the order of their answers.
var sameNodeKinds = []string{"v4", "mapped", "v6", "fastopen", "v6only", "bound4", "bound6"}

// sameNodeServers are services, each with the addresses on which its program listens,
// and for each kind of caller how it is reached: "4" and "6" are direct calls that the
// program sees from the caller's virtual address of that family, "-" is carried by
// the daemon: the socket can't have a peer of the program's family, or is bound.
var sameNodeServers = []struct {
	service, want string
	listens       []string
}{
	{"lo4", "4 4 4 4 - - -", []string{"127.0.0.1"}},
	{"any4", "4 4 4 4 - - -", []string{"0.0.0.0"}},
	{"host4", "4 4 4 4 - - -", []string{"{4}"}},
	{"dual", "4 4 4 4 4 - 4", []string{"::"}},
	{"both", "4 4 4 4 4 - 4", []string{"0.0.0.0", ":: only"}},
	{"lo6", "- 6 6 6 6 - 6", []string{"::1"}},
	{"any6", "- 6 6 6 6 - 6", []string{":: only"}},
	{"host6", "- 6 6 6 6 - -", []string{"{6}"}},
}

// sameNodeCalls are what one caller prints, by label.
type sameNodeCalls struct {
	p *testhost.Process
}

// now are the first and the last line of each label.
func (c sameNodeCalls) now() (first, last map[string]string) {
	first, last = map[string]string{}, map[string]string{}
	for line := range strings.Lines(c.p.Output()) {
		label, rest, whole := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !whole || !strings.HasSuffix(line, "\n") {
			continue
		}
		if first[label] == "" {
			first[label] = rest
		}
		last[label] = rest
	}
	return first, last
}

// goOn waits until some more lines have come back on each of the connections.
func (c sameNodeCalls) goOn(t *testing.T, when string, labels []string) {
	t.Helper()
	_, before := c.now()
	testhost.Eventually(t, 10*time.Second, "bytes flow "+when, func() error {
		_, last := c.now()
		for _, label := range labels {
			old, _ := strconv.Atoi(before[label])
			if n, err := strconv.Atoi(last[label]); err != nil || n < old+3 {
				return fmt.Errorf("%s: %q, it was %q", label, last[label], before[label])
			}
		}
		return nil
	})
}

// TestSameNodeIsDirect: programs of one node talk directly, whatever the program
// listens on and the caller asks for; the exceptions are in sameNodeServers. Restarting
// the daemon, or killing it, cuts nothing there, and a denial cuts everything.
func TestSameNodeIsDirect(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{})
	h := m.Nodes[0]
	testhost.Must(t, h.Sysctl("net/ipv4/tcp_fastopen", "1543")) // without cookies, for all listeners
	script, err := filepath.Abs("testdata/samenode.py")
	testhost.Must(t, err)
	h.Tacit(t, "service", "register", "web")
	h.Tacit(t, "intention", "allow", "web", "*", "--wait")
	places := strings.NewReplacer("{4}", h.Addr.String(), "{6}", h.Addr6.String())
	for i, s := range sameNodeServers {
		args := []string{script, "serve", fmt.Sprint(8000 + i)}
		for _, at := range s.listens {
			args = append(args, places.Replace(at))
		}
		h.StartAs(t, s.service, testhost.Python(), args...)
	}
	web4, web6 := virtuals(t, h, "web")
	calls, want := []string{script, "call"}, map[string]string{}
	var direct []string
	for i, s := range sameNodeServers {
		h.AwaitListener(t, 8000+i)
		h.Tacit(t, "service", "register", s.service, "--port", fmt.Sprint(8000+i))
		v4, v6 := virtuals(t, h, s.service)
		for k, word := range strings.Fields(s.want) {
			kind := sameNodeKinds[k]
			label, addr := s.service+"/"+kind, map[string]string{"v4": v4, "bound4": v4, "mapped": "::ffff:" + v4, "v6": v6, "fastopen": v6, "v6only": v6, "bound6": v6}[kind]
			calls = append(calls, fmt.Sprintf("%s=%s=%s=%d", label, kind, addr, 8000+i))
			want[label] = map[string]string{"4": "direct " + web4, "6": "direct " + web6, "-": "carried"}[word]
			if word != "-" {
				direct = append(direct, label)
			}
		}
	}
	for _, s := range sameNodeServers {
		testhost.AwaitText(t, 10*time.Second, s.service+" is healthy", `"healthy": true`, func() string {
			out, _ := h.TryTacit(t, "service", "show", s.service, "--json")
			return out
		})
	}
	c := sameNodeCalls{h.StartAs(t, "web", testhost.Python(), calls...)}
	c.goOn(t, "at first", direct)
	first, _ := c.now()
	for _, label := range slices.Sorted(maps.Keys(want)) {
		got := strings.Replace(first[label], "::ffff:", "", 1)
		if got != want[label] && (want[label] != "carried" || !strings.HasPrefix(got, "carried ")) {
			t.Errorf("%s: %q, want %q", label, first[label], want[label])
		}
	}
	for when, end := range map[string]func(testing.TB){"stopped": h.Stop, "killed": h.Kill} {
		end(t)
		c.goOn(t, "while the daemon is "+when, direct)
		h.Daemon(t)
		c.goOn(t, "after it was "+when, direct)
	}
	h.Tacit(t, "intention", "deny", "web", "*", "--wait")
	testhost.Eventually(t, 10*time.Second, "all are cut", func() error {
		_, last := c.now()
		for _, label := range direct {
			if !strings.HasPrefix(last[label], "ended: ECONN") { // ECONNRESET or ECONNABORTED, no clean end
				return fmt.Errorf("%s: %q", label, last[label])
			}
		}
		return nil
	})
	denied := sameNodeCalls{h.StartAs(t, "web", testhost.Python(), calls...)}
	denied.p.Wait(t, 10*time.Second)
	for label, said := range func() map[string]string { f, _ := denied.now(); return f }() {
		if said != "ended: "+refusedBy {
			t.Errorf("denied: %s: %q", label, said)
		}
	}
}
