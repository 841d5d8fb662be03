// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/redirect/sockdiag"
)

// childEnv makes this binary a process that lives until its input ends:
// "shell" says its number, "server" starts a shell in a terminal of its own
// and keeps what it has inherited.
const childEnv = "TACIT_TEST_SESSIONS_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "server":
		if err := serve(); err != nil {
			fmt.Println(err)
		}
	case "shell":
		fmt.Println(os.Getpid())
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// serve does what a server for remote shells does.
func serve() error {
	terminal, err := openTerminal()
	if err != nil {
		return err
	}
	shell := exec.Command("/proc/self/exe")
	shell.Env = append(os.Environ(), childEnv+"=shell")
	shell.Stdin, shell.Stdout, shell.ExtraFiles = os.Stdin, os.Stdout, []*os.File{terminal}
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3, Pdeathsig: syscall.SIGKILL}
	return shell.Start()
}

// openTerminal makes a pseudo-terminal (pty(7)) that lives as long as this process.
func openTerminal() (*os.File, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
}

// start runs a child that inherits a connection, if any, in a session without
// a terminal, and returns the number of the shell, which it says.
func start(t *testing.T, task string, conn *net.TCPConn, env ...string) (shell int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childEnv+"="+task, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if conn != nil {
		f, err := conn.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stdin.Close(), cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &shell); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return shell
}

// connection is an established one, and what the kernel says of its server's end.
func connection(t *testing.T) (server *net.TCPConn, listed []sockdiag.Connection) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	listed, err = sockdiag.EstablishedOn(netip.MustParseAddrPort(ln.Addr().String()).Port())
	if err != nil || len(listed) != 1 || listed[0].Remote.String() != c.LocalAddr().String() || listed[0].Cookie == 0 {
		t.Fatalf("%+v, %v", listed, err)
	}
	return s.(*net.TCPConn), listed
}

// TestOf: a session is found by the sockets of the process and of what started
// it, or by the environment.
func TestOf(t *testing.T) {
	server, conns := connection(t)
	from, to := conns[0].Remote, conns[0].Local
	ssh := fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", from.Addr(), from.Port(), to.Addr(), to.Port())
	inherited := start(t, "server", nil) // below this process, which holds the connection
	if found := Of(inherited, conns); len(found) != 1 || found[0] != conns[0] {
		t.Errorf("held by what started it: %v", found)
	}
	if found := Of(os.Getpid(), conns); len(found) != 1 {
		t.Errorf("held by itself: %v", found)
	}
	named := start(t, "shell", nil, ssh)
	passed := start(t, "server", server)
	if err := server.Close(); err != nil { // from here on only the child holds it
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		pid  int
		want int
	}{
		{"held by the server that started it", passed, 1},
		{"named by its environment", named, 1},
		{"held by a neighbour", inherited, 0},
		{"the first process", 1, 0},
		{"nobody", 0, 0},
	} {
		if found := Of(c.pid, conns); len(found) != c.want {
			t.Errorf("%s: %v", c.name, found)
		}
	}
	if found := Of(named, nil); found != nil {
		t.Errorf("the environment names what the kernel doesn't list: %v", found)
	}
}

// TestLogins: a remote shell is a connection whose holder started a process in
// a terminal; a server that is reached from elsewhere is none.
func TestLogins(t *testing.T) {
	shells, login := connection(t)
	servers, service := connection(t)
	start(t, "server", shells)
	start(t, "shell", servers) // no terminal
	_, _ = shells.Close(), servers.Close()
	if found := Logins(append(login, service...)); len(found) != 1 || found[0] != login[0] {
		t.Errorf("%v, want %v", found, login)
	}
	if found := Logins(nil); found != nil {
		t.Errorf("%v out of nothing", found)
	}
}

func TestParseSSH(t *testing.T) {
	for env, want := range map[string]string{
		"HOME=/\x00SSH_CONNECTION=192.0.2.1 4000 198.51.100.2 22\x00": "198.51.100.2:22 192.0.2.1:4000",
		"SSH_CONNECTION=::ffff:192.0.2.1 4000 fe80::2%eth0 22":        "[fe80::2]:22 192.0.2.1:4000",
		"SSH_CONNECTION=192.0.2.1 4000 198.51.100.2":                  "invalid AddrPort invalid AddrPort",
		"SSH_CONNECTION=a 4000 198.51.100.2 99999":                    "invalid AddrPort invalid AddrPort",
		"XSSH_CONNECTION=192.0.2.1 4000 198.51.100.2 22":              "invalid AddrPort invalid AddrPort",
		"": "invalid AddrPort invalid AddrPort",
	} {
		e := parseSSH(env)
		if got := e.local.String() + " " + e.remote.String(); got != want {
			t.Errorf("%q: %s, want %s", env, got, want)
		}
	}
}

func TestRemotes(t *testing.T) {
	var conns []sockdiag.Connection
	for n := range 7 {
		conns = append(conns, sockdiag.Connection{Remote: netip.AddrPortFrom(netip.IPv6Loopback(), uint16(n))})
	}
	for n, want := range map[int]string{0: "", 1: "[::1]:0", 5: "[::1]:4", 7: "[::1]:4 and 2 more"} {
		if got := Remotes(conns[:n]); !strings.HasSuffix(got, want) || n == 0 && got != "" {
			t.Errorf("%d: %s", n, got)
		}
	}
}
