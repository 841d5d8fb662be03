// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestUnconfirmedIsUndone: without a confirmation the daemon undoes the start,
// says so and ends, and the host is as it was before.
func TestUnconfirmedIsUndone(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	same := host.Leaks(t)
	p := startUnconfirmed(t, host, "8s")
	host.Tacit(t, "service", "register", "db", "--port", "8000")
	if exit := p.Wait(t, time.Minute); exit != 1 {
		t.Errorf("exit %d, want 1", exit)
	}
	if last := lastLine(p.Output()); last != "tacitd: not confirmed in time (tacit confirm): everything was undone" {
		t.Errorf("the last line is %q", last)
	}
	same()
}

// TestConfirmedStays: after a confirmation everything stays in force past the
// deadline, and there is nothing more to confirm.
func TestConfirmedStays(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	before := host.Snapshot(t)
	host.Daemon(t, "--bootstrap", "--confirm", "20s")
	if err := contains(host.Tacit(t, "status"), "s unless tacit confirm"); err != nil {
		t.Error(err)
	}
	out := host.Tacit(t, "confirm")
	for _, want := range []string{"confirmed; this stays", "eBPF programs", host.BPF, "ip -4 route add local", "iptables -t mangle -N"} {
		if err := contains(out, want); err != nil {
			t.Error(err)
		}
	}
	if err := contains(host.Tacit(t, "confirm"), "nothing to confirm"); err != nil {
		t.Error(err)
	}
	testhost.Eventually(t, time.Minute, "it runs past the confirm deadline", func() error {
		s := jsonOf[struct {
			Healthy bool    `json:"healthy"`
			Uptime  float64 `json:"uptime_seconds"`
		}](t, host.Tacit(t, "status", "--json"))
		if !s.Healthy || s.Uptime < 30 { // past the watchdog's own deadline, too
			return fmt.Errorf("healthy %v, up %f s", s.Healthy, s.Uptime)
		}
		return nil
	})
	after := host.Snapshot(t)
	if after == before || strings.Contains(after, "confirm") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestKilledUnconfirmedIsUndone: before the confirm deadline a killed daemon
// leaves the mesh closed; at the deadline the watchdog undoes everything.
func TestKilledUnconfirmedIsUndone(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	before := host.Snapshot(t)
	host.Daemon(t, "--bootstrap", "--confirm", "20s")
	host.Kill(t)
	if host.Snapshot(t) == before {
		t.Error("undone at once: the mesh is open before the deadline")
	}
	undone(t, host, before)
}

// TestAStoppedDaemonIsUndone: the same for a daemon that hangs, here by SIGSTOP.
func TestAStoppedDaemonIsUndone(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	before := host.Snapshot(t)
	p := startUnconfirmed(t, host, "20s")
	p.Signal(syscall.SIGSTOP)
	undone(t, host, before)
	if exit := p.Wait(t, 10*time.Second); exit != -1 {
		t.Errorf("the daemon that hung: exit %d, want a signal", exit)
	}
}

// TestARestartInheritsTheDeadline: a daemon started again before the confirm
// deadline keeps that deadline, and can be confirmed.
func TestARestartInheritsTheDeadline(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	host.Daemon(t, "--bootstrap", "--confirm", "1m")
	host.Kill(t)
	host.Daemon(t)
	if err := contains(host.Tacit(t, "status"), "unconfirmed: undone in"); err != nil {
		t.Error(err)
	}
	if err := contains(host.Tacit(t, "confirm"), "confirmed; this stays"); err != nil {
		t.Error(err)
	}
	testhost.Eventually(t, 20*time.Second, "the watchdogs have ended", func() error {
		if s := host.Snapshot(t); strings.Contains(s, "confirm") {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	host.Stop(t)
	host.Daemon(t, "--confirm", "1m")
	host.Stop(t) // `tacitd cleanup` also undoes a start that nobody has confirmed
	before := host.Snapshot(t)
	if out, exit := host.Tacitd(t, "cleanup"); exit != 0 || host.Snapshot(t) == before {
		t.Errorf("cleanup: exit %d, %s", exit, out)
	}
}

// startUnconfirmed starts a daemon that ends by itself, and waits until status
// shows the confirm deadline.
func startUnconfirmed(t *testing.T, host *testhost.Host, deadline string) *testhost.Process {
	t.Helper()
	p := host.Start(t, "init", host.Bin("tacitd"), append(host.Flags(), "--bootstrap", "--confirm", deadline)...)
	testhost.Eventually(t, 30*time.Second, "status shows the deadline", func() error {
		out, _, _ := host.Output(t, "user", host.Bin("tacit"), "status")
		return contains(out, "unconfirmed: undone in")
	})
	return p
}

func undone(t *testing.T, host *testhost.Host, before string) {
	t.Helper()
	testhost.Eventually(t, time.Minute, "everything is undone", func() error {
		if after := host.Snapshot(t); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
}
