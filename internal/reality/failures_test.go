// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const (
	callRate = 100 // calls a second
	page     = "web"
)

// enforced says whether limits are checked, or only reported.
const enforced = false

// limits are the most that callers may notice of a failure. Zero is no limit.
type limits struct {
	failed  int
	slowest time.Duration
	known   time.Duration
}

// failure is something that happens to the second of three nodes: an instance
// runs on it and on the third, the callers mostly on the first.
type failure struct {
	name   string
	strike func(*failures, *testing.T)
	repair func(*failures, *testing.T)
	alone  bool // its daemon can't be asked
	beside bool // the callers are on that node too, where its own instance is preferred
	brief  bool // strike repairs it at once
	limits limits
}

func kinds() []failure {
	second := limits{failed: 1, slowest: 1500 * time.Millisecond}
	program := second
	program.known = time.Second
	start := func(f *failures, t *testing.T) { f.struck.Daemon(t) }
	serve := func(f *failures, t *testing.T) { f.serve(t, f.struck) }
	crash := func(f *failures, t *testing.T) { f.struck.Kill(t); f.struck.Daemon(t) }
	return []failure{
		{name: "program killed", strike: (*failures).killProgram, repair: serve, limits: program},
		{name: "program killed beside its callers", strike: (*failures).killProgram, repair: serve, beside: true, limits: program},
		{name: "daemon killed", strike: func(f *failures, t *testing.T) { f.struck.Kill(t) }, repair: start, alone: true, limits: second},
		{name: "daemon killed, started at once", strike: crash, repair: func(*failures, *testing.T) {}, brief: true, limits: second},
		{name: "daemon stopped", strike: func(f *failures, t *testing.T) { f.struck.Stop(t) }, repair: start, alone: true, limits: second},
		{name: "node frozen", strike: freeze("1"), repair: freeze("0"), alone: true, limits: second},
		{name: "link down", strike: port("ip link set port2 down"), repair: port("ip link set port2 up"), alone: true, limits: second},
		{name: "packets dropped", strike: port("bridge link set dev port2 state 0"), repair: port("bridge link set dev port2 state 3"), alone: true, limits: second},
	}
}

// failures is a mesh of three nodes under load.
type failures struct {
	m              *testhost.Mesh
	client, struck *testhost.Host
	runs           int
	seen           map[string][]outcome // by the failure's name
}

// TestFailures counts, for each kind of failure, what callers notice.
func TestFailures(t *testing.T) {
	testhost.VerifyNone(t)
	f := &failures{seen: map[string][]outcome{}}
	f.m = testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{page, caller}})
	f.client, f.struck = f.m.Nodes[0], f.m.Nodes[1]
	for _, h := range f.m.Nodes[1:] {
		f.prepare(t, h)
		f.serve(t, h)
		h.Tacit(t, "service", "register", page, "--port", "8080")
	}
	f.client.MakeWorkload(t, caller)
	f.struck.MakeWorkload(t, caller)
	f.client.Tacit(t, "intention", "allow", caller, page, "--wait")
	for range size(1, 20) {
		for _, kind := range kinds() {
			o := f.run(t, kind)
			f.seen[kind.name] = append(f.seen[kind.name], o)
			t.Logf("%-33s %+v", kind.name, o)
		}
	}
	f.report(t)
}

// prepare writes nginx's configuration: every page is the node's name.
func (f *failures) prepare(t *testing.T, h *testhost.Host) {
	dir := filepath.Join(h.Dir, page)
	testhost.Must(t, os.Mkdir(dir, 0o755))
	testhost.WriteFile(t, filepath.Join(dir, "nginx.conf"), nginxConf(dir, fmt.Sprintf("\n\tlisten 8080;\n\tlocation / { return 200 \"%s\\n\"; }", h.Name)))
	own(t, "www-data", dir)
}

func (f *failures) serve(t *testing.T, h *testhost.Host) {
	t.Helper()
	dir := filepath.Join(h.Dir, page)
	line := asUser("www-data", "nginx", "-e", "stderr", "-p", dir, "-c", "nginx.conf")
	h.StartAs(t, page, line[0], line[1:]...)
	h.AwaitListener(t, 8080)
}

// killProgram ends all processes of the instance at once.
func (f *failures) killProgram(t *testing.T) {
	testhost.Must(t, os.WriteFile(filepath.Join(f.struck.CgroupPath(testhost.WorkloadCgroup(page)), "cgroup.kill"), []byte("1"), 0))
}

// freeze stops every process of the node, as SIGSTOP does, and lets it go on.
func freeze(on string) func(*failures, *testing.T) {
	return func(f *failures, t *testing.T) {
		testhost.Must(t, os.WriteFile(filepath.Join(f.struck.CgroupPath(""), "cgroup.freeze"), []byte(on), 0))
	}
}

// port changes the switch's end of the node's cable; state 0 is disabled, 3 is forwarding.
func port(command string) func(*failures, *testing.T) {
	return func(f *failures, t *testing.T) {
		words := append([]string{"--net=" + f.m.Namespace(), "--"}, strings.Fields(command)...)
		testhost.Must(t, run(exec.Command("nsenter", words...)))
	}
}

// run is one failure under load, and its repair.
func (f *failures) run(t *testing.T, kind failure) outcome {
	t.Helper()
	f.runs++
	label := fmt.Sprintf("r%d", f.runs)
	client, instances := f.client, f.m.Nodes[1:]
	if kind.beside {
		client, instances = f.struck, []*testhost.Host{f.struck}
	}
	load := client.StartAs(t, caller, client.Bin("probe"), "calls", page+":80", fmt.Sprint(callRate), label)
	f.answered(t, kind.name+": before the failure", load, instances, time.Time{})
	at := times{failure: time.Now()}
	kind.strike(f, t)
	at.struck = time.Now()
	known := f.known(t, kind, at.failure, time.Duration(size(2500, 6000))*time.Millisecond)
	at.repair = time.Now()
	kind.repair(f, t)
	f.answered(t, kind.name+": after the repair", load, instances, time.Now())
	load.Signal(syscall.SIGTERM)
	load.Wait(t, 15*time.Second)
	calls, err := callsOf(load.Output(), true)
	testhost.Must(t, err)
	silent := f.struck.Name
	if kind.brief {
		silent = "" // it answers again before the repair
	}
	o, err := account(calls, f.logs(t), label, silent, at)
	if err != nil {
		t.Fatalf("%s: %v", kind.name, err)
	}
	o.known = known
	return o
}

// answered waits until each instance has answered twenty calls that began after
// a moment.
func (f *failures) answered(t *testing.T, what string, load *testhost.Process, instances []*testhost.Host, since time.Time) {
	t.Helper()
	testhost.Eventually(t, 40*time.Second, what, func() error {
		calls, err := callsOf(load.Output(), false)
		if err != nil {
			return err
		}
		by := map[string]int{}
		for _, c := range calls {
			if c.start.After(since) {
				by[c.by]++
			}
		}
		for _, h := range instances {
			if by[h.Name] < 20 {
				return fmt.Errorf("answers by instance: %v", by)
			}
		}
		return nil
	})
}

// known asks the nodes, for a while, whether they know that the instance is gone,
// and returns when the last one did: see outcome.known.
func (f *failures) known(t *testing.T, kind failure, failure time.Time, window time.Duration) time.Duration {
	t.Helper()
	last, missing := time.Duration(0), slices.Clone(f.m.Nodes)
	if kind.alone {
		missing = slices.DeleteFunc(missing, func(h *testhost.Host) bool { return h == f.struck })
	}
	for time.Since(failure) < window {
		missing = slices.DeleteFunc(missing, func(h *testhost.Host) bool {
			out, _ := h.TryTacit(t, "service", "show", page, "--json")
			if health := healthOf(t, out, f.struck.Name); health == nil || *health {
				return false
			}
			last = time.Since(failure)
			return true
		})
		<-time.After(20 * time.Millisecond)
	}
	if len(missing) > 0 {
		return -1
	}
	return last
}

// healthOf finds what `tacit service show --json` says of a node's instance.
func healthOf(t *testing.T, text, node string) *bool {
	t.Helper()
	var parsed any
	if err := json.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatalf("not JSON: %v: %s", err, text)
	}
	var find func(any) *bool
	find = func(v any) *bool {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				if found := find(item); found != nil {
					return found
				}
			}
		case map[string]any:
			if healthy, ok := v["healthy"].(bool); ok && v["node"] == node {
				return &healthy
			}
			for _, item := range v {
				if found := find(item); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return find(parsed)
}

// logs are the requests that each instance says it has carried out.
func (f *failures) logs(t *testing.T) map[string]map[string]int {
	t.Helper()
	logs := map[string]map[string]int{}
	for _, h := range f.m.Nodes[1:] {
		logs[h.Name] = map[string]int{}
		text, err := os.ReadFile(filepath.Join(h.Dir, page, "access.log"))
		testhost.Must(t, err)
		for line := range strings.Lines(string(text)) {
			path, _, _ := strings.Cut(line, " ")
			logs[h.Name][path]++
		}
	}
	return logs
}
