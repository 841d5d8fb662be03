// SPDX-License-Identifier: Apache-2.0

// Package carrier tests what programs see of the bytes that are carried between
// them, on each way that a connection can take: that all arrive, how streams end,
// and what is left of them, also over bad cables and beside peers that fall silent.
// It must not look inside the product, so that one carrier can be judged after
// another; timings are printed, and decide only in the soak.
package carrier

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const (
	caller = "web"
	callee = "db"
	port   = 5432
	local  = 12000 // of the explicit upstream
)

// fixture is a mesh where db runs on there, and web calls it from everywhere.
type fixture struct {
	*testhost.Mesh
	t           *testing.T // whose end is that of daemons and servers
	here, there *testhost.Host
	server      *testhost.Process
	ways        []way
}

// way is a way that a connection takes from web to db.
type way struct {
	name string
	lane bool // between two nodes
	addr string
	run  func(t *testing.T, args ...string) *testhost.Process // the caller's program
}

// TestCarrier has one mesh for its parts: most of the time would go into starting
// more. They can be run one by one: -run 'TestCarrier/a_cut'.
func TestCarrier(t *testing.T) {
	testhost.VerifyNone(t)
	f := newFixture(t, nil)
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"bytes are bytes", f.bytes},
		{"a loaded peer is not silent", f.loaded},
		{"a black hole", f.blackHole},
		{"a cut is never a clean end", f.cuts},
		{"a peer goes silent", f.silence},
		{"many connections leave nothing", f.many},
	} {
		f.answers(t)
		t.Run(part.name, part.test)
		for _, h := range f.Nodes {
			stalls := strings.Count(h.Current(t).Output(), "event loop has been stuck")
			figure(t, part.name+": stalls of event loops on "+h.Name, "0", stalls, stalls == 0)
		}
	}
}

// newFixture calls prepare, unless it is nil, before the daemons start.
func newFixture(t *testing.T, prepare func(*testhost.Mesh)) *fixture {
	t.Helper()
	f := &fixture{t: t, Mesh: testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{caller, callee}, Prepare: prepare})}
	f.here, f.there = f.Nodes[0], f.Nodes[1]
	f.serve()
	f.there.Tacit(t, "service", "register", callee, "--port", strconv.Itoa(port))
	box := f.here.Container(t, "box")
	f.here.Tacit(t, "service", "register", caller, "--upstream", fmt.Sprintf("%s=%d", callee, local))
	f.here.Tacit(t, "service", "register", caller, "--id", "boxed", "--cgroup", box.CgroupPath("app"))
	f.there.MakeWorkload(t, caller)
	f.here.Tacit(t, "intention", "allow", caller, callee, "--wait")
	remote, _ := f.here.Virtual(t, callee)
	beside, _ := f.there.Virtual(t, callee)
	as := func(h *testhost.Host) func(*testing.T, ...string) *testhost.Process {
		return func(t *testing.T, args ...string) *testhost.Process {
			return h.StartAs(t, caller, h.Bin("probe"), args...)
		}
	}
	f.ways = []way{
		{"remote", true, at(remote, port), as(f.here)},
		{"same node", false, at(beside, port), as(f.there)},
		{"TPROXY", true, at(remote, port), func(t *testing.T, args ...string) *testhost.Process {
			return box.Start(t, "app", box.Bin("probe"), args...)
		}},
		{"explicit upstream", true, fmt.Sprintf("127.0.0.1:%d", local), as(f.here)},
	}
	f.answers(t)
	return f
}

// serve starts the program.
func (f *fixture) serve() {
	f.t.Helper()
	f.server = f.there.StartAs(f.t, callee, f.there.Bin("probe"), "streams-listen", fmt.Sprintf("127.0.0.1:%d", port))
	f.there.AwaitListener(f.t, port)
}

// answers waits until db is reached on every way.
func (f *fixture) answers(t *testing.T) {
	t.Helper()
	for _, w := range f.ways {
		testhost.Eventually(t, 20*time.Second, "db is reached: "+w.name, func() error {
			s := w.start(t, 1, "ping", 1)
			if s.ended(t).results["ok"] != 1 {
				return fmt.Errorf("%s", s.Output())
			}
			return nil
		})
	}
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// streams are connections on one way, made by one program.
type streams struct {
	*testhost.Process
	what  string
	count int
}

// start starts count streams with an operation of the probe.
func (w way) start(t *testing.T, count int, operation string, arg ...int) streams {
	t.Helper()
	args := []string{"streams", w.addr, strconv.Itoa(count), operation}
	for _, a := range arg {
		args = append(args, strconv.Itoa(a))
	}
	return streams{w.run(t, args...), w.name + ", " + operation, count}
}

// up waits until all of them do what they are for.
func (s streams) up(t *testing.T) streams {
	t.Helper()
	testhost.AwaitText(t, time.Minute, s.what+": all are open", fmt.Sprintf("open %d\n", s.count), s.Output)
	return s
}

// stop ends those that would go on for ever, and wants that all of them did.
func (s streams) stop(t *testing.T) {
	t.Helper()
	s.Signal(syscall.SIGTERM)
	s.all(t, "ok")
}

// all waits for the end of the streams, each of which must have one of the results.
func (s streams) all(t *testing.T, results ...string) report {
	t.Helper()
	r := s.ended(t)
	good := 0
	for _, name := range results {
		good += r.results[name]
	}
	if good != s.count {
		t.Errorf("%s: %v; want %d times %s\n%s", s.what, r.results, s.count, strings.Join(results, " or "), s.Output())
	}
	return r
}

// report is what came of streams.
type report struct {
	results     map[string]int
	first, last time.Time // when the first and the last one ended
	slowest     time.Duration
	p99         time.Duration // of pings
}

// ended waits for the end of the streams.
func (s streams) ended(t *testing.T) report {
	t.Helper()
	s.Wait(t, 10*time.Minute)
	r := report{results: map[string]int{}}
	for line := range strings.Lines(s.Output()) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "ended" && words[0] != "ping" {
			continue
		}
		for _, w := range words[1:] {
			name, value, _ := strings.Cut(w, "=")
			n, err := strconv.Atoi(value)
			testhost.Must(t, err)
			r.set(name, n)
		}
	}
	return r
}

func (r *report) set(name string, n int) {
	switch name {
	case "first":
		r.first = time.UnixMicro(int64(n))
	case "last":
		r.last = time.UnixMicro(int64(n))
	case "slowest":
		r.slowest = time.Duration(n) * time.Microsecond
	case "p50":
	case "p99":
		r.p99 = time.Duration(n) * time.Microsecond
	default:
		r.results[name] = n
	}
}

// full reports whether the soak is wanted.
func full() bool { return os.Getenv("TACIT_SOAK") != "" }

// size picks a number for the short form or for the soak.
func size(short, whole int) int {
	if full() {
		return whole
	}
	return short
}

// figure prints a line of the table that `make soak` ends with. Only there, a wrong
// one fails the test.
func figure(t *testing.T, what, wanted string, seen any, right bool) {
	t.Helper()
	line := fmt.Sprintf("SOAK\tcarrier: %s: %s\t%s\t%v", strings.ReplaceAll(t.Name(), "_", " "), what, wanted, seen)
	if full() && !right {
		t.Errorf("%s\tWRONG", line)
		return
	}
	t.Log(line)
}
