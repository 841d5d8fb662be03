// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	readyLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// Daemon is a tacitd that has said that it is ready.
type Daemon struct {
	*Process
	ending bool // the test has asked for its end
}

// Flags are the flags that make tacitd this host's daemon.
func (h *Host) Flags() []string {
	return []string{
		"--node", h.Name, "--address", h.Addr.String(), "--cgroup", h.Cgroup,
		"--state-dir", h.State, "--run-dir", h.RunDir, "--bpffs-dir", h.BPF, "--services-dir", h.Services,
	}
}

// Socket is where the CLI finds the daemon.
func (h *Host) Socket() string { return filepath.Join(h.RunDir, "tacit.sock") }

// Daemon starts tacitd with the host's flags and args and waits until it says
// READY=1 (sd_notify). The end of the test stops the daemon; a daemon that has
// ended by itself fails the test. A failed test prints the daemon's log.
func (h *Host) Daemon(t testing.TB, args ...string) *Daemon {
	t.Helper()
	notify := filepath.Join(h.Dir, "notify.sock")
	_ = os.Remove(notify)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	Must(t, err)
	defer conn.Close()
	cmd := h.daemonCommand(append(h.Flags(), args...))
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	p, err := h.launch(cmd, "tacitd")
	Must(t, err)
	d := &Daemon{Process: p}
	h.mu.Lock()
	h.daemon = d
	h.mu.Unlock()
	t.Cleanup(func() { h.end(t, d) })
	if err := d.ready(conn); err != nil {
		t.Fatalf("tacitd on %s: %v\n%s", h.Name, err, tail(d.Output(), 20))
	}
	return d
}

func (h *Host) daemonCommand(args []string) *exec.Cmd {
	words := slices.Concat(h.Starter, []string{h.Bin("tacitd")}, args)
	return h.Command("init", words[0], words[1:]...)
}

// ready waits for READY=1, at most until the daemon ends or readyLimit passes.
func (d *Daemon) ready(conn *net.UnixConn) error {
	buf := make([]byte, 4096)
	for end := time.Now().Add(readyLimit); time.Now().Before(end); {
		select {
		case <-d.ended:
			return fmt.Errorf("ended before it was ready: %s", d.cmd.ProcessState)
		default:
		}
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := conn.Read(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		for line := range strings.Lines(string(buf[:n])) {
			if strings.TrimSpace(line) == "READY=1" {
				return nil
			}
		}
	}
	return fmt.Errorf("not ready after %s", readyLimit)
}

// end stops the daemon at the end of the test.
func (h *Host) end(t testing.TB, d *Daemon) {
	select {
	case <-d.ended:
		if !d.ending {
			t.Errorf("tacitd on %s ended by itself: %s", h.Name, d.cmd.ProcessState)
		}
	default:
		h.stop(t, d)
	}
	if t.Failed() {
		t.Logf("end of the log of tacitd on %s:\n%s", h.Name, tail(d.Output(), 200))
	}
}

func (h *Host) stop(t testing.TB, d *Daemon) {
	d.ending = true
	d.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(stopLimit):
		d.Signal(syscall.SIGQUIT) // so that the log shows where it hangs
		<-time.After(time.Second)
		d.Signal(syscall.SIGKILL)
		<-d.ended
		t.Errorf("tacitd on %s still ran %s after SIGTERM", h.Name, stopLimit)
		return
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("tacitd on %s: %s after SIGTERM", h.Name, d.cmd.ProcessState)
	}
}

// Stop sends SIGTERM to the host's daemon and waits for its end, which must be
// a success.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	h.stop(t, h.Current(t))
}

// Kill sends SIGKILL to the host's daemon and waits for its end.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	d := h.Current(t)
	d.ending = true
	d.Signal(syscall.SIGKILL)
	<-d.ended
}

// Goroutines are the stacks of the host's daemon, which ends: SIGQUIT has the Go
// runtime print them.
func (h *Host) Goroutines(t testing.TB) []string {
	t.Helper()
	d := h.Current(t)
	d.ending = true
	d.Signal(syscall.SIGQUIT)
	d.Wait(t, stopLimit)
	_, stacks, _ := strings.Cut(d.Output(), "SIGQUIT: quit")
	return strings.Split(stacks, "\ngoroutine ")[1:]
}

// TakeOver starts a daemon that takes over from the host's present one, which goes on to
// carry its streams, and returns that one.
func (h *Host) TakeOver(t testing.TB, args ...string) (earlier *Daemon) {
	t.Helper()
	earlier = h.Current(t)
	earlier.ending = true
	h.Daemon(t, append([]string{"--take-over"}, args...)...)
	return earlier
}

// Current is the daemon that was started last.
func (h *Host) Current(t testing.TB) *Daemon {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil {
		t.Fatalf("%s has no daemon", h.Name)
	}
	return h.daemon
}
