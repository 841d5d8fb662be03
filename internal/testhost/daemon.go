// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	wanted bool // its end
}

// Flags are what makes tacitd this host's daemon.
func (h *Host) Flags() []string {
	return []string{
		"--node", h.Name, "--address", h.Addr.String(), "--cgroup", h.Cgroup,
		"--state-dir", h.State, "--run-dir", h.RunDir, "--bpffs-dir", h.BPF, "--services-dir", h.Services,
	}
}

// Socket is where the CLI finds the daemon.
func (h *Host) Socket() string { return filepath.Join(h.RunDir, "tacit.sock") }

// Daemon starts tacitd with the host's flags and args, and waits until it says
// READY=1 (sd_notify); else it fails the test with the end of the log. At the
// test's end the daemon is stopped; that it ended by itself fails the test,
// and a failed test prints the log.
func (h *Host) Daemon(t testing.TB, args ...string) *Daemon {
	t.Helper()
	notify := filepath.Join(h.Dir, "notify.sock")
	_ = os.Remove(notify)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	cmd := h.Command("init", h.Bin("tacitd"), append(h.Flags(), args...)...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	p, err := h.launch(cmd, "tacitd")
	must(t, err)
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

// ready waits for READY=1, the daemon's end, or the limit.
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

// end is the test's end for a daemon.
func (h *Host) end(t testing.TB, d *Daemon) {
	select {
	case <-d.ended:
		if !d.wanted {
			t.Errorf("tacitd on %s ended by itself: %s", h.Name, d.cmd.ProcessState)
		}
	default:
		h.stop(t, d)
	}
	if t.Failed() {
		t.Logf("log of tacitd on %s:\n%s", h.Name, tail(d.Output(), 200))
	}
}

func (h *Host) stop(t testing.TB, d *Daemon) {
	d.wanted = true
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

// Kill kills the host's daemon, which has no time to do anything about it.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	d := h.Current(t)
	d.wanted = true
	d.Signal(syscall.SIGKILL)
	<-d.ended
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

// Tacitd runs tacitd to its end: a subcommand if args begin with one, else a
// daemon that is expected to fail. The host's flags come before args.
func (h *Host) Tacitd(t testing.TB, args ...string) (out string, exit int) {
	t.Helper()
	var words []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		words, args = args[:1:1], args[1:]
	}
	return h.Run(t, "init", h.Bin("tacitd"), append(append(words, h.Flags()...), args...)...)
}

// Tacit runs the CLI against the host's daemon. It returns standard output,
// and what came on standard error behind it when the exit status isn't 0.
func (h *Host) Tacit(t testing.TB, args ...string) (out string, exit int) {
	t.Helper()
	out, errs, exit := h.Output(t, "user", h.Bin("tacit"), append([]string{"--socket", h.Socket()}, args...)...)
	if exit != 0 {
		return out + errs, exit
	}
	if errs != "" {
		t.Logf("%s$ tacit %s, standard error:\n%s", h.Name, strings.Join(args, " "), errs)
	}
	return out, exit
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
