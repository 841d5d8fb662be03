// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// fakeSSHD accepts connections on port 2222. It runs each line that it receives in
// a grandchild with a terminal of its own, as sshd does, and sends back its output
// and exit status. "orphan FILE" before a command makes init its parent and keeps
// SSH_CONNECTION, as a terminal multiplexer does.
const fakeSSHD = `
import os, pty, socket, subprocess, sys
os.setsid()
ls = socket.socket(); ls.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ls.bind(("0.0.0.0", 2222)); ls.listen(8)
def session(c, peer):
    env = dict(os.environ, SSH_CONNECTION="%s %d %s %d" % (peer + c.getsockname()))
    f = c.makefile("rw")
    pid, fd = pty.fork()
    if pid == 0:
        os.read(0, 1); os._exit(0) # a shell that waits at its prompt
    for line in f:
        words = line.split()
        if words[0] == "orphan":
            out = words[1]
            subprocess.Popen(["setsid", "-f", "sh", "-c", " ".join(words[2:]) + " >" + out + " 2>&1; echo exit $? >>" + out], env=env, close_fds=True)
            f.write("started\n")
        else:
            p = subprocess.run(["sh", "-c", line], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            f.write(p.stdout.replace("\n", " ") + "exit %d\n" % p.returncode)
        f.flush()
while True:
    c, peer = ls.accept()
    if os.fork() == 0:
        ls.close(); session(c, peer); os._exit(0)
    c.close()
`

// login is a session through the fake sshd.
type login struct {
	t    *testing.T
	conn net.Conn
}

func newLogin(t *testing.T, from, to *testhost.Host) login {
	t.Helper()
	var conn net.Conn
	testhost.Eventually(t, 10*time.Second, "sshd answers", func() (err error) {
		conn, err = from.Dial("tcp", to.Addr.String()+":2222")
		return err
	})
	t.Cleanup(func() { conn.Close() })
	l := login{t, conn}
	l.run("true")
	return l
}

// run sends a line and returns the line of the answer.
func (l login) run(line string) string {
	l.t.Helper()
	_ = l.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(l.conn, line+"\n"); err != nil {
		l.t.Fatalf("%s: %v", line, err)
	}
	var out strings.Builder
	for b := make([]byte, 1); ; {
		if _, err := l.conn.Read(b); err != nil {
			l.t.Fatalf("%s: %q, then %v", line, out.String(), err)
		}
		if b[0] == '\n' {
			return out.String()
		}
		out.Write(b)
	}
}

func (l login) answers(line string, wants ...string) {
	l.t.Helper()
	out := l.run(line)
	for _, want := range wants {
		if !strings.Contains(out, want) {
			l.t.Errorf("%s: no %q in %s", line, want, out)
		}
	}
}

// sshHost is a node with a fake sshd, and a host to log in from.
func sshHost(t *testing.T) (host, outside *testhost.Host) {
	t.Helper()
	host = testhost.NewNet(t).Host(t, "host1")
	outside = host.Net().Host(t, "outside")
	host.Daemon(t, "--bootstrap")
	host.Start(t, "sshd", testhost.Python(), "-c", fakeSSHD)
	return host, outside
}

// TestRegisterKnowsTheCallersSession: `tacit service register` finds the session
// it runs in by its parent processes and, where those have ended, by
// SSH_CONNECTION. Another session isn't taken for it, and plain clients are named.
func TestRegisterKnowsTheCallersSession(t *testing.T) {
	host, outside := sshHost(t)
	mine, other := newLogin(t, outside, host), newLogin(t, outside, host)
	register := host.Bin("tacit") + " service register ssh --port 2222"
	me := mine.conn.LocalAddr().String()

	mine.answers(register, "exit 1", "carries the session in which you work, from "+me, "--yes")
	mine.answers("SSH_CONNECTION='192.0.2.1 1 192.0.2.2 2222' "+register, "exit 1", me)
	file := filepath.Join(host.Dir, "orphan.out")
	mine.answers("orphan "+file+" "+register, "started")
	testhost.Eventually(t, 20*time.Second, "the orphan is refused", func() error {
		out, _ := os.ReadFile(file)
		if !strings.Contains(string(out), "from "+me) {
			return fmt.Errorf("%s", out)
		}
		return contains(string(out), "exit 1")
	})
	mine.answers(register+" --permissive", "exit 0")
	mine.answers(host.Bin("tacit")+" service deregister ssh", "exit 0")

	mine.answers(register+" --yes", "exit 0", "cuts 1 plain connections: "+other.conn.LocalAddr().String(), "leaves the session in which you work, from "+me)
	mine.answers("echo still here", "still here")
	if conn, err := outside.Dial("tcp", host.Addr.String()+":2222"); err == nil {
		conn.Close()
		t.Error("a new plain connection was let in")
	}
}

// TestAServiceFileWaitsForYes: a service file for a port that carries a login
// session isn't in force, also after a restart, until it is registered with --yes.
func TestAServiceFileWaitsForYes(t *testing.T) {
	host, outside := sshHost(t)
	mine := newLogin(t, outside, host)
	file := filepath.Join(host.Services, "ssh.hcl")
	testhost.WriteFile(t, file, "service {\n  name = \"ssh\"\n  port = 2222\n}\n")
	waits := func() error {
		out, _, _ := host.Output(t, "user", host.Bin("tacit"), "status", "--json")
		return contains(out, "tacit service register ssh --id ssh --port 2222 --yes")
	}
	testhost.Eventually(t, 10*time.Second, "status says what waits", waits)
	host.Stop(t)
	host.Daemon(t)
	testhost.Eventually(t, 10*time.Second, "it waits after a restart", waits)
	newLogin(t, outside, host)
	if out, exit := host.TryTacit(t, "service", "register", "ssh", "--port", "2222"); exit != 1 || !strings.Contains(out, "is defined in a file and not in force yet") {
		t.Errorf("without --yes: exit %d, %s", exit, out)
	}
	mine.answers(host.Bin("tacit")+" service register ssh --port 2222 --yes", "exit 0")
	mine.answers("echo still here", "still here")
	if err := contains(host.Tacit(t, "service", "show", "ssh", "--json"), file+":1"); err != nil {
		t.Error(err)
	}
	closed := func() error {
		conn, err := outside.Dial("tcp", host.Addr.String()+":2222")
		if err == nil {
			conn.Close()
			return fmt.Errorf("a plain connection was let in")
		}
		return nil
	}
	testhost.Eventually(t, 10*time.Second, "the port is closed", closed)
	host.Stop(t)
	host.Daemon(t) // a definition in force stays in force, also with a session on its port
	if err := closed(); err != nil {
		t.Error(err)
	}
	mine.answers("echo still here", "still here")
}

// TestAServiceFileWithoutSessionsWaitsForNobody: plain clients are no login
// sessions, so that the file is in force at once.
func TestAServiceFileWithoutSessionsWaitsForNobody(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	outside := host.Net().Host(t, "outside")
	host.Daemon(t, "--bootstrap")
	host.Start(t, "db", host.Bin("probe"), "listen", "0.0.0.0:5432")
	testhost.Eventually(t, 10*time.Second, "db answers", func() error {
		conn, err := outside.Dial("tcp", host.Addr.String()+":5432")
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	})
	define(t, []*testhost.Host{host}, host, "db", "{\"service\": {\"name\": \"db\", \"port\": 5432}}")
	host.Tacit(t, "status")
}
