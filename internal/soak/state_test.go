// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// state is what is counted after each crash, for each node: addresses, rules,
// routes, chains, attached programs, pins, files, cgroups, its daemon's eBPF
// objects and descriptors by kind, and the entries of maps.
type state struct{ lines []string }

func (b *bed) state(daemons map[*testhost.Host]*testhost.Daemon) state {
	var s state
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		for line := range strings.Lines(h.Snapshot(b.t)) {
			s.lines = append(s.lines, h.Name+" "+anyPort.ReplaceAllString(strings.TrimSpace(line), "on-port P"))
		}
		now := objects{}
		now.held(b.t, daemons[h].PID())
		s.lines = append(s.lines, h.Name+" eBPF objects: "+now.kinds(), h.Name+" entries: "+b.entries(h),
			h.Name+" descriptors: "+descriptors(b.t, daemons[h].PID()))
	}
	return s
}

// anyPort: the daemon's listeners have other ports after each start.
var anyPort = regexp.MustCompile(`on-port \d+`)

// logNumber: each start has a log of its own.
var logNumber = regexp.MustCompile(`\.\d+\.log$`)

var found = regexp.MustCompile(`Found (\d+) element`)

// entries of the maps that connections fill.
func (b *bed) entries(h *testhost.Host) string {
	var out []string
	for _, name := range []string{"origins", "workloads", "intentions", "ports", "guards", "remotes"} {
		text, _ := h.Run(b.t, "user", "bpftool", "map", "dump", "pinned", filepath.Join(h.BPF, name))
		if m := found.FindStringSubmatch(text); m != nil {
			out = append(out, name+" "+m[1])
			continue
		}
		out = append(out, fmt.Sprintf("%s %d", name, strings.Count(text, `"key"`)))
	}
	return strings.Join(out, ", ")
}

// descriptors of a process by kind. Established TCP connections are left out:
// how many warm lanes there are is the load's doing.
func descriptors(t testing.TB, pid int) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	established := map[string]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		text, _ := os.ReadFile(filepath.Join(dir, "net", name))
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] != "0A" { // TCP_LISTEN
				established["socket:["+f[9]+"]"] = true
			}
		}
	}
	kinds := map[string]int{}
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		if target == "" || established[target] {
			continue
		}
		kind, _, _ := strings.Cut(target, ":[")
		kinds[logNumber.ReplaceAllString(filepath.Base(kind), ".log")]++
	}
	return fmt.Sprint(kinds)
}

// differs lists what only one of two states has.
func (s state) differs(from state) error {
	var out []string
	had, has := map[string]int{}, map[string]int{}
	for _, l := range from.lines {
		had[l]++
	}
	for _, l := range s.lines {
		if has[l]++; has[l] > had[l] {
			out = append(out, "+ "+l)
		}
	}
	for l, n := range had {
		if n > has[l] {
			out = append(out, "- "+l)
		}
	}
	if len(out) > 0 {
		return fmt.Errorf("%s", strings.Join(out, "\n"))
	}
	return nil
}
