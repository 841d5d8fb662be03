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

// state is what is compared after each crash, for each node: its snapshot, its
// daemon's eBPF objects and descriptors by kind, and the entries of maps.
type state struct{ lines []string }

func (f *loadFixture) state(daemons map[*testhost.Host]*testhost.Daemon) state {
	var s state
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		for line := range strings.Lines(h.Snapshot(f.t)) {
			s.lines = append(s.lines, h.Name+" "+anyPort.ReplaceAllString(strings.TrimSpace(line), "on-port P"))
		}
		now := objects{}
		now.held(f.t, daemons[h].PID())
		s.lines = append(s.lines, h.Name+" eBPF objects: "+now.kinds(), h.Name+" entries: "+f.entries(h),
			h.Name+" descriptors: "+descriptors(f.t, daemons[h].PID()))
	}
	return s
}

// anyPort matches the ports of the daemon's listeners, which change at every start.
var anyPort = regexp.MustCompile(`on-port \d+`)

// logNumber matches what differs in the names of the daemon's log files.
var logNumber = regexp.MustCompile(`\.\d+\.log$`)

var found = regexp.MustCompile(`Found (\d+) element`)

// entries counts the entries of the maps that connections and policy fill.
func (f *loadFixture) entries(h *testhost.Host) string {
	var out []string
	for _, name := range []string{"origins", "workloads", "intentions", "ports", "guards", "remotes"} {
		text, _ := h.Run(f.t, "user", "bpftool", "map", "dump", "pinned", filepath.Join(h.BPF, name))
		if m := found.FindStringSubmatch(text); m != nil {
			out = append(out, name+" "+m[1])
			continue
		}
		out = append(out, fmt.Sprintf("%s %d", name, strings.Count(text, `"key"`)))
	}
	return strings.Join(out, ", ")
}

// descriptors counts a process's descriptors by kind, without established TCP
// connections: the number of open lanes depends on the load.
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

// differs lists the lines that only one of two states has.
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
