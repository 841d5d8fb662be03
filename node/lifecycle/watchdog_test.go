// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestWait is a table of how the watchdog's wait ends: what the daemon, a real
// process, and its deadline's file do, and whether the start must be undone.
func TestWait(t *testing.T) {
	const soon, never = 400 * time.Millisecond, time.Hour
	for _, row := range []struct {
		name   string
		end    time.Duration // from now
		hang   time.Duration // what a live daemon has after the end
		event  func(t *testing.T, p *process, file string)
		want   bool
		killed bool // the daemon, by the watchdog
	}{
		{name: "confirmed", end: never, hang: never, event: func(t *testing.T, _ *process, file string) { remove(t, file) }},
		{name: "another daemon has a deadline of its own", end: never, hang: never, event: func(t *testing.T, _ *process, file string) { write(t, file, "another mark") }},
		{name: "confirmed by a daemon that ended then", end: soon, hang: never, event: func(t *testing.T, p *process, file string) { remove(t, file); p.kill() }},
		{name: "undone by the daemon at the end", end: 0, hang: never, event: func(t *testing.T, _ *process, file string) { remove(t, file) }},
		{name: "the daemon ends unconfirmed", end: soon, hang: never, event: func(_ *testing.T, p *process, _ string) { p.kill() }, want: true},
		{name: "the daemon hangs", end: soon, hang: 100 * time.Millisecond, event: func(*testing.T, *process, string) {}, want: true, killed: true},
		{name: "the daemon is stopped", end: soon, hang: 100 * time.Millisecond, event: func(_ *testing.T, p *process, _ string) { p.signal(syscall.SIGSTOP) }, want: true, killed: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, file := startProcess(t), filepath.Join(t.TempDir(), "unconfirmed")
			w := watchdog{path: file, end: bootTime() + row.end, daemon: p.pidfd, hangTime: row.hang}
			w.mark = newMark(bootID(), w.end, p.cmd.Process.Pid)
			write(t, file, w.mark)
			done := make(chan bool, 1)
			go func() { done <- w.wait() }()
			row.event(t, p, file)
			select {
			case got := <-done:
				if got != row.want || got && bootTime() < w.end {
					t.Errorf("undo %t, %s before the end; want %t", got, w.end-bootTime(), row.want)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("still waiting")
			}
			if row.killed && !w.gone() {
				t.Error("the daemon was not killed")
			}
		})
	}
}

// process is a child that does nothing.
type process struct {
	cmd   *exec.Cmd
	pidfd *os.File
}

func startProcess(t *testing.T) *process {
	t.Helper()
	fd := -1
	p := &process{cmd: exec.Command("sleep", "600")}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { p.kill(); _ = p.cmd.Wait(); _ = p.pidfd.Close() })
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) } // none to one that has ended
func (p *process) kill()              { p.signal(syscall.SIGKILL) }

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
}

// TestAKilledDaemonIsUndone: a daemon with a deadline of 2 s is killed, and the
// watchdog that it started removes everything.
func TestAKilledDaemonIsUndone(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	same := host.Leaks(t)
	p := startDaemon(t, host, 2*time.Second)
	p.Signal(syscall.SIGKILL)
	testhost.Eventually(t, time.Minute, "the start is undone", func() error { return gone(host.RunDir) })
	same()
}

// TestAConfirmedDaemonStays: once the deadline's file is removed, the watchdog
// ends and leaves the daemon alone.
func TestAConfirmedDaemonStays(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	p := startDaemon(t, host, 2*time.Minute)
	remove(t, filepath.Join(host.RunDir, "unconfirmed"))
	testhost.Eventually(t, time.Minute, "the watchdog has ended", func() error { return gone(host.CgroupPath("tacit")) })
	if !exists(host.RunDir) || !exists(filepath.Join("/proc", pid(p.PID()))) {
		t.Errorf("the start was undone: %s", p.Output())
	}
}
