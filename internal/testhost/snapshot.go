// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Snapshot is all that a daemon could have left on the host, as text that is
// equal when nothing differs: addresses, rules, routes, chains, sysctls,
// attached eBPF programs, pins, the files of RunDir, and cgroups below
// Cgroup/tacit.
func (h *Host) Snapshot(t testing.TB) string {
	t.Helper()
	text, err := h.snapshot()
	Must(t, err)
	return text
}

// Leaks remembers the host's state. check fails the test when the host isn't in
// that state again within 5 s, and lists the differences.
func (h *Host) Leaks(t testing.TB) (check func()) {
	t.Helper()
	before := h.Snapshot(t)
	return func() {
		t.Helper()
		err := wait(5*time.Second, func() error {
			after, err := h.snapshot()
			if err == nil && after != before {
				err = fmt.Errorf("%s", difference(before, after))
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: left behind (+) or lost (-):\n%v", h.Name, err)
		}
	}
}

// stateCommands are the programs whose output is the state of a namespace.
func stateCommands() [][]string {
	return [][]string{
		{"ip", "-br", "addr"},
		{"ip", "-4", "rule"},
		{"ip", "-6", "rule"},
		{"ip", "-4", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"iptables-save"},
		{"ip6tables-save"},
	}
}

func (h *Host) snapshot() (string, error) {
	var out strings.Builder
	err := h.Do(func() error {
		for _, words := range stateCommands() {
			text, err := exec.Command(words[0], words[1:]...).Output()
			if err != nil {
				return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
			}
			section(&out, strings.Join(words, " "), stable(string(text)))
		}
		section(&out, "sysctl", sysctls())
		programs, err := attached(h.Cgroup)
		section(&out, "eBPF programs", programs)
		return err
	})
	section(&out, "pins", below(h.BPF))
	section(&out, "run", below(h.RunDir))
	section(&out, "cgroups", directories(h.CgroupPath("tacit")))
	return out.String(), err
}

func section(out *strings.Builder, name string, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(out, "%s: %s\n", name, line)
	}
}

var changing = regexp.MustCompile(` expires \d+sec| \[\d+:\d+\]|@if\d+`)

// stable drops what differs from run to run: counters, time-outs, comments, and
// the empty tables that iptables lists once they have been read.
func stable(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(changing.ReplaceAllString(line, ""))
		builtin := strings.HasPrefix(line, ":") && !strings.HasSuffix(line, " -") && strings.HasSuffix(line, " ACCEPT")
		if line == "" || line == "COMMIT" || builtin || strings.ContainsAny(line[:1], "#*") {
			continue
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// sysctls are those that steer captured packets, for every interface.
func sysctls() []string {
	var lines []string
	for _, pattern := range []string{
		"net/ipv4/ip_forward", "net/ipv4/tcp_fwmark_accept", "net/ipv4/ip_nonlocal_bind", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/route_localnet", "net/ipv4/conf/*/accept_local", "net/ipv4/conf/*/src_valid_mark",
	} {
		files, _ := filepath.Glob(filepath.Join("/proc/sys", pattern))
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				lines = append(lines, strings.TrimPrefix(file, "/proc/sys/")+" = "+strings.TrimSpace(string(text)))
			}
		}
	}
	return lines
}

// below lists the files below a directory.
func below(dir string) []string {
	var lines []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			lines = append(lines, path)
		}
		return nil
	})
	return lines
}

func directories(dir string) []string {
	var lines []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			lines = append(lines, path)
		}
		return nil
	})
	return lines
}

// difference lists the lines that only one text has.
func difference(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}
