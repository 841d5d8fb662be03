// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/redirect"
)

// TestOpen: programs know every listener, routes and rules lead there, and
// nothing is wrong.
func TestOpen(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	if missing, err := f.Drift(); err != nil || len(missing) > 0 {
		t.Errorf("drift %q, %v", missing, err)
	}
	told, captured := f.hooks.told(), f.Captured()
	if len(captured) != 2 || len(f.hooks.serving) != 3 {
		t.Fatalf("%d listeners for captured connections, %d that stand for the daemon's life", len(captured), len(f.hooks.serving))
	}
	for i, ln := range captured {
		if told.Proxy[i].Port != portOf(ln) || !listens(told.Proxy[i].FD, unix.SOCK_STREAM) {
			t.Errorf("programs are told of %+v, want %s", told.Proxy[i], ln.Addr())
		}
		if told.NamesUDP[i].Port != told.NamesTCP[i].Port || !listens(told.NamesUDP[i].FD, unix.SOCK_DGRAM) || !listens(told.NamesTCP[i].FD, unix.SOCK_STREAM) {
			t.Errorf("for names, programs are told of %+v and %+v", told.NamesUDP[i], told.NamesTCP[i])
		}
	}
	if addrs := f.Resolvers(); len(addrs) != 1 || addrs[0] != netip.MustParseAddr("10.99.0.53") || strings.Join(f.Search(), " ") != "mesh.test" {
		t.Errorf("resolvers %v, suffixes %q", addrs, f.Search())
	}
	if hooks, err := f.Hooks(); err != nil || len(hooks) != 1 {
		t.Errorf("hooks %v, %v", hooks, err)
	}
	differs(t, "problems", wrong(f.board), "")
}

// listens reports whether a descriptor is an open socket of that type.
func listens(fd, kind int) bool {
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && got == kind
}

// TestClose leaves neither descriptor nor goroutine, whether or not Run was
// called and Open came to its end; routes and rules stay.
func TestClose(t *testing.T) {
	if !alone(t) {
		return
	}
	testhost.Must(t, newFixture(t).Close()) // nothing was opened
	for name, run := range map[string]bool{"opened": false, "watched": true} {
		t.Run(name, func(t *testing.T) {
			f := watched(t)
			testhost.Must(t, f.Open(t.Context()))
			if run {
				t.Run("until", f.run)
			}
			testhost.Must(t, f.Close())
			if missing, err := redirect.Drift(f.Plan()); err != nil || len(missing) > 0 {
				t.Errorf("drift after Close %q, %v", missing, err)
			}
		})
	}
	t.Run("half open", func(t *testing.T) {
		f := watched(t)
		f.settings.ResolvConf += ".gone"
		if f.Open(t.Context()) == nil {
			t.Error("opened without a resolv.conf")
		}
		testhost.Must(t, f.Close())
	})
}

// movedFrom is nil when a listener has another port, programs know it, and the
// repair is on the board.
func movedFrom(f *fixture, i int, before uint16) error {
	if now := portOf(f.Captured()[i]); now == before || f.hooks.told().Proxy[i].Port != now {
		return fmt.Errorf("on port %d, programs know %d", now, f.hooks.told().Proxy[i].Port)
	}
	if !strings.Contains(repaired(f.board), family(i == 1)) {
		return errors.New("no repair is reported")
	}
	return nil
}

// watched is a fixture that must leave nothing behind. It is reachable until
// that was examined: the garbage collector would close what it holds.
func watched(t *testing.T) (f *fixture) {
	t.Helper()
	t.Cleanup(func() { runtime.KeepAlive(f) })
	testhost.VerifyNone(t)
	return newFixture(t)
}

// TestCapturedListenerReopens: others close a listener; another one is open,
// and programs and rules know it.
func TestCapturedListenerReopens(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.accept(t)
	for i, ln := range []*net.TCPListener{f.listeners.TCP4, f.listeners.TCP6} {
		before := portOf(ln)
		shut(t, ln)
		testhost.Eventually(t, waitFor, "another listener", func() error { return movedFrom(f, i, before) })
		told := f.hooks.told()
		if now := portOf(f.Captured()[i]); told.Proxy[i].Port != now || !strings.Contains(f.Plan().String(), fmt.Sprint(now)) || strings.Contains(f.Plan().String(), fmt.Sprint(before)) {
			t.Errorf("listening on port %d after %d; programs are told of %+v; the plan is\n%s", now, before, told.Proxy[i], f.Plan())
		}
		if conn, err := net.Dial("tcp", f.Captured()[i].Addr().String()); err != nil {
			t.Error(err)
		} else {
			_ = conn.Close()
		}
	}
	if missing, err := f.Drift(); err != nil || len(missing) > 0 {
		t.Errorf("drift %q, %v", missing, err)
	}
	differs(t, "problems", wrong(f.board), "")
	differs(t, "repairs", repaired(f.board), "captured connections, IPv4: closed by others\ncaptured connections, IPv6: closed by others")
}
