// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Process is a program in the background, killed at the end of the test.
type Process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// Start starts a program as Command does; what it writes goes to a file, see
// Output.
func (h *Host) Start(t testing.TB, cgroup, name string, args ...string) *Process {
	t.Helper()
	p, err := h.launch(h.Command(cgroup, name, args...), filepath.Base(name))
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	t.Cleanup(func() { p.Signal(syscall.SIGKILL); <-p.ended })
	return p
}

// launch starts a command with a log of its own.
func (h *Host) launch(cmd *exec.Cmd, name string) (*Process, error) {
	h.mu.Lock()
	h.started++
	path := filepath.Join(h.Dir, fmt.Sprintf("%s.%d.log", name, h.started))
	h.mu.Unlock()
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, log: path, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the state says how it ended
		close(p.ended)
	}()
	return p, nil
}

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal, unless the process has ended.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Output is what the program has written so far.
func (p *Process) Output() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// Wait waits for the end and returns the exit status, -1 after a signal. It
// fails the test when the limit passes first.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		t.Fatalf("%s: still running after %s\n%s", filepath.Base(p.log), limit, p.Output())
	}
	return p.cmd.ProcessState.ExitCode()
}
