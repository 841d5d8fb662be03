// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"tacit/policy"
)

const inNamespace = "TACIT_TPROXY_NAMESPACE"

// TestSilentPeer: a peer that has become unreachable is noticed within little more
// than five seconds, whether bytes were under way or not. It needs root: a packet
// filter in a network namespace of its own acts as the broken path.
func TestSilentPeer(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestSilentPeer$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	run(t, "ip", "link", "set", "lo", "up")
	a, b := pair(t, echo)
	writing, quiet, ended := a.call(), a.call(), a.call()
	for _, c := range []io.ReadWriter{writing, quiet, ended} {
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	_ = ended.CloseWrite()
	wantBytes(t, ended, nil)
	a.lastFlow(1) // its lane is warm now
	port := strconv.Itoa(int(b.lane.Port()))
	for _, side := range []string{"--dport", "--sport"} {
		run(t, "iptables", "-w", "-A", "INPUT", "-p", "tcp", side, port, "-j", "DROP")
	}
	began := time.Now()
	_, _ = writing.Write([]byte("y"))
	a.wantRefused([]byte("z"))
	wantReset(t, writing)
	wantReset(t, quiet)
	t.Logf("noticed after %v", time.Since(began)) // about 5 s; the calls' own deadlines fail the test
	for n := 2; n <= 4; n++ {
		if f := a.lastFlow(n); f.End != policy.ReasonLane {
			t.Errorf("ended with %q", f.End)
		}
	}
	run(t, "iptables", "-w", "-F", "INPUT")
	ask(t, a)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
