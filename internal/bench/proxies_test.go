// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// cgroups are the folders of the proxies' cgroups on both hosts.
func (s *system) cgroups() (dirs []string) {
	for _, h := range []*testhost.Host{s.client, s.server} {
		for _, name := range proxied {
			_ = filepath.WalkDir(h.CgroupPath(name), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() { // one that ends meanwhile is none
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	return dirs
}

// cpu is how many seconds of CPU the proxies of both hosts have used, with what
// the kernel did on their behalf.
func (s *system) cpu(b testing.TB) float64 {
	b.Helper()
	var sum float64
	for _, h := range []*testhost.Host{s.client, s.server} {
		for _, name := range proxied {
			if text, err := os.ReadFile(filepath.Join(h.CgroupPath(name), "cpu.stat")); err == nil { // no proxy, no cgroup
				sum += field(b, string(text), "usage_usec") / 1e6
			}
		}
	}
	return sum
}

// field is the number behind a name in a file of the kernel's.
func field(b testing.TB, text, name string) float64 {
	b.Helper()
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			v, err := strconv.ParseFloat(f[1], 64)
			testhost.Must(b, err)
			return v
		}
	}
	b.Fatalf("no %q in %q", name, text)
	return 0
}

// pids are the proxies' processes.
func (s *system) pids() (all []string) {
	for _, dir := range s.cgroups() {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

// memory is the proxies' proportional share of memory, in KiB.
func (s *system) memory(b testing.TB) float64 {
	b.Helper()
	var sum float64
	for _, pid := range s.pids() {
		if text, err := os.ReadFile(filepath.Join("/proc", pid, "smaps_rollup")); err == nil && len(text) > 0 { // some end meanwhile
			sum += field(b, string(text), "Pss:")
		}
	}
	return sum
}

// switches is how often the proxies' threads have been switched.
func (s *system) switches(b testing.TB) float64 {
	b.Helper()
	var sum float64
	for _, pid := range s.pids() {
		threads, _ := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "status"))
		for _, path := range threads {
			if text, err := os.ReadFile(path); err == nil { // some end meanwhile
				sum += field(b, string(text), "voluntary_ctxt_switches:") + field(b, string(text), "nonvoluntary_ctxt_switches:")
			}
		}
	}
	return sum
}

// settle waits until the proxies have closed what the last load opened.
func (s *system) settle(b testing.TB) {
	b.Helper()
	const quiet = 0.003 // seconds of CPU between two looks, which are up to 100 ms apart
	before := s.cpu(b) - 1
	testhost.Eventually(b, 10*time.Second, "the proxies of "+s.name+" are quiet", func() error {
		was := before
		before = s.cpu(b)
		if before-was > quiet {
			return fmt.Errorf("%.3f s of CPU", before-was)
		}
		return nil
	})
}
