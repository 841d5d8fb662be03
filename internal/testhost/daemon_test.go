// SPDX-License-Identifier: Apache-2.0

package testhost_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// standIn prints its flags, says that it is ready, and waits for SIGTERM.
const standIn = `#!%s
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(*sys.argv[1:], flush=True)
if "--broken" in sys.argv:
    sys.exit("the cgroup tree won't do")
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"STATUS=loading", os.environ["NOTIFY_SOCKET"])
s.sendto(b"READY=1\nSTATUS=up", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
`

// standIns are a tacitd that only speaks sd_notify and a tacit that is a script.
func standIns(t *testing.T, tacit string) {
	t.Helper()
	bin := t.TempDir()
	for name, text := range map[string]string{
		"tacitd": fmt.Sprintf(standIn, testhost.Python()),
		"tacit":  "#!/bin/sh\n" + tacit + "\n",
	} {
		testhost.Must(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755))
	}
	t.Setenv("TACIT_BIN", bin)
}

// TestDaemon starts, stops and kills a stand-in, and checks what a daemon that
// doesn't start and a command that fails show.
func TestDaemon(t *testing.T) {
	testhost.VerifyNone(t)
	standIns(t, `echo "$@"; echo note >&2; exit $(($# - 3))`)
	h := testhost.NewNet(t).Host(t, "host1")
	d := h.Daemon(t, "--bootstrap")
	for _, want := range []string{"--node host1", "--address " + h.Addr.String(), "--cgroup " + h.Cgroup, "--bootstrap"} {
		if !strings.Contains(d.Output(), want) {
			t.Errorf("no %q among the flags: %s", want, d.Output())
		}
	}
	h.Stop(t)
	h.Daemon(t)
	h.Kill(t)
	h.Daemon(t) // the test's end stops it
	if out, exit := h.TryTacit(t, "nodes"); exit != 0 || out != "--socket "+h.Socket()+" nodes\n" {
		t.Errorf("CLI: exit %d, %q", exit, out)
	}
	if out, exit := h.TryTacit(t, "a", "b"); exit != 1 || !strings.HasSuffix(out, "note\n") {
		t.Errorf("failing CLI: exit %d, %q", exit, out)
	}
	if out, exit := h.Tacitd(t, "cleanup", "--broken"); exit != 1 || !strings.HasPrefix(out, "cleanup --node host1") {
		t.Errorf("subcommand: exit %d, %q", exit, out)
	}
	if said := fatal(t, func(r testing.TB) { h.Tacit(r, "a", "b") }); !strings.Contains(said, "host1$ tacit a b: exit 1") ||
		!strings.Contains(said, "note\n") || !strings.Contains(said, "log of tacitd on host1:\n--node host1") {
		t.Errorf("a command that fails: %q", said)
	}
	if said := fatal(t, func(r testing.TB) { h.Daemon(r, "--broken") }); !strings.Contains(said, "ended before it was ready") ||
		!strings.Contains(said, "the cgroup tree won't do") {
		t.Errorf("a daemon that doesn't start: %q", said)
	}
}

// fatal runs f as a test that must end by Fatalf, and returns what that said.
func fatal(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	r := &fatalist{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.said
}

type fatalist struct {
	testing.TB
	said string
}

func (f *fatalist) Cleanup(func()) {}

func (f *fatalist) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
