// SPDX-License-Identifier: Apache-2.0

// Package state reads all that a daemon could leave on a host, and compares two such
// readings. It must change nothing, nor know how the host came about.
package state

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Of is what there is, as text that is equal when nothing differs: the addresses, rules,
// routes, chains and sysctls of the current network namespace, the eBPF programs that are
// attached to it and to a cgroup, the files of two folders, and the cgroups that a daemon
// makes below its own.
func Of(cgroup, pins, run string) (string, error) {
	var out strings.Builder
	for _, words := range commands() {
		text, err := exec.Command(words[0], words[1:]...).Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w", strings.Join(words, " "), err)
		}
		section(&out, strings.Join(words, " "), stable(string(text)))
	}
	section(&out, "sysctl", sysctls())
	programs, err := attached(cgroup)
	section(&out, "eBPF programs", programs)
	section(&out, "pins", below(pins, false))
	section(&out, "run", below(run, false))
	section(&out, "cgroups", below(filepath.Join(cgroup, "tacit"), true))
	return out.String(), err
}

// commands are the programs whose output is the state of a namespace.
func commands() [][]string {
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

// below lists the files below a directory, or it and the directories there.
func below(dir string, directories bool) []string {
	var lines []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() == directories {
			lines = append(lines, path)
		}
		return nil
	})
	return lines
}

// Difference lists the lines that only one text has.
func Difference(before, after string) string {
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
