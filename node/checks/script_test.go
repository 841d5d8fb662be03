// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/definition"
)

// scripts is a manager whose scripts run in a cgroup of a test host.
func scripts(t *testing.T) *Manager {
	t.Helper()
	m := newManager("127.0.0.1:1", new(int))
	m.conf.Scripts = testhost.NewNet(t).Host(t, "host1").CgroupPath("checks")
	if err := openScripts(m.conf.Scripts); err != nil {
		t.Fatal(err)
	}
	return m
}

// script runs a shell script as a check with this timeout. Nothing of it is left.
func script(t *testing.T, m *Manager, text string, timeout time.Duration) (status, output string) {
	t.Helper()
	c := &check{HealthCheck: definition.HealthCheck{Kind: definition.CheckScript, Args: []string{"/bin/sh", "-c", text}, Timeout: timeout}}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	status, output = m.run(ctx, c)
	if left, err := filepath.Glob(m.conf.Scripts + "/run-*"); err != nil || len(left) > 0 {
		t.Errorf("%.60s: left %q, %v", text, left, err)
	}
	return status, output
}

func TestScripts(t *testing.T) {
	m := scripts(t)
	t.Setenv("SECRET", "of the daemon")
	for _, tt := range []struct{ text, want string }{
		{`echo fine; exit 0`, "passing fine"},
		{`echo out; echo err >&2; exit 1`, "warning out\nerr"},
		{`exit 2`, "critical "},
		{`kill -9 $$`, "critical "},
		{`echo $SECRET$0; pwd; cat`, "passing /bin/sh\n/"}, // neither the environment nor an input
		{`nosuchprogram`, "critical /bin/sh: 1: nosuchprogram: not found"},
		{`cat /proc/self/cgroup | grep -c '^0::.*/checks/run-'`, "passing 1"},
		{`sleep 1000 & echo started`, "passing started"}, // what it leaves is ended, and not waited for
		{`setsid -f sleep 1000; echo started`, "passing started"},
		{`printf '\377\376x'`, "passing \xff\xfex"}, // cut() makes it text
	} {
		status, output := script(t, m, tt.text, waitLimit)
		if got := status + " " + strings.TrimSpace(output); got != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.text, got, tt.want)
		}
	}
	c := &check{HealthCheck: definition.HealthCheck{Kind: definition.CheckScript, Args: []string{"/nowhere/check"}, Timeout: waitLimit}}
	if status, output := m.run(t.Context(), c); status != "critical" || output != "fork/exec /nowhere/check: no such file or directory" {
		t.Error(status, output)
	}
}

// TestScriptBounds: a script that hangs, forks or prints without end is ended
// as a whole, and costs the daemon no memory.
func TestScriptBounds(t *testing.T) {
	m := scripts(t)
	for _, tt := range []struct {
		name, text string
		timeout    time.Duration
		want       string
	}{
		{"hangs", `echo before; trap '' TERM INT; sleep 1000`, 300 * time.Millisecond, "critical before\ndidn't end within 300ms and was killed"},
		{"hangs in a group of its own", `setsid sleep 1000`, 300 * time.Millisecond, "critical didn't end within 300ms and was killed"},
		{"forks without end", `bomb() { bomb | bomb & wait; }; bomb`, 5 * time.Second, "critical *ran * processes, more than 64, and was killed"},
		{"prints 128 MiB", `head -c 134217728 /dev/zero | tr '\0' x`, 5 * time.Minute, "passing " + strings.Repeat("x", maxOutput)},
		{"prints without end", `yes 'a line'`, 300 * time.Millisecond, "critical a line\n*\ndidn't end within 300ms and was killed"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		status, output := script(t, m, tt.text, tt.timeout)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if got := status + " " + output; !matches(got, tt.want) || len(output) > maxOutput {
			t.Errorf("%s:\ngot  %.200q (%d bytes)\nwant %.200q", tt.name, got, len(output), tt.want)
		}
		if spent := (after.TotalAlloc - before.TotalAlloc) >> 20; took > tt.timeout+2*groupEnds || spent > 16 {
			t.Errorf("%s: took %s and allocated %d MiB", tt.name, took, spent)
		}
		t.Logf("%s: %s", tt.name, took.Round(time.Millisecond))
	}
}

// matches compares with a text in which each * stands for anything.
func matches(got, want string) bool {
	parts := strings.Split(want, "*")
	rest, ok := strings.CutPrefix(got, parts[0])
	for _, part := range parts[1:] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return ok && rest == ""
}

// TestKernelLimits: where the host has the controllers, a script's cgroup gets
// their limits before the script starts.
func TestKernelLimits(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"pids.max", "memory.max", "memory.swap.max"} {
		testhost.WriteFile(t, filepath.Join(dir, file), "")
	}
	g := &group{path: dir}
	g.limit()
	for file, want := range map[string]string{"pids.max": "64", "memory.max": "268435456", "memory.swap.max": "0"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
	if !g.limited {
		t.Error("its processes are counted although the kernel counts them")
	}
	bare := &group{path: t.TempDir()}
	if bare.limit(); bare.limited {
		t.Error("without a controller nobody counts the processes")
	}
}

// TestOpenScripts: what a daemon that was killed left running is ended.
func TestOpenScripts(t *testing.T) {
	m := scripts(t)
	g, err := newGroup(m.conf.Scripts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(g, []string{"/bin/sh", "-c", "mkdir " + g.path + "/below; sleep 1000"})
	if err != nil {
		t.Fatal(err)
	}
	testhost.Eventually(t, waitLimit, "the script has begun", func() error {
		_, err := os.Stat(g.path + "/below")
		return err
	})
	if err := openScripts(m.conf.Scripts); err != nil {
		t.Error(err)
	}
	_ = p.output()
	if left, _ := filepath.Glob(m.conf.Scripts + "/*/"); len(left) > 0 {
		t.Error(fmt.Sprint(left))
	}
}
