// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Service numbers in tests.
const (
	web   = 1
	db    = 2
	other = 3
)

var (
	testRange4 = netip.MustParsePrefix("240.64.0.0/12")
	testRange6 = netip.MustParsePrefix("fd7a:ac17::/32")
)

// host is a network namespace, a cgroup and a bpffs. The thread of the test is in
// the namespace until the test ends.
type host struct {
	*Objects
	t      testing.TB
	conf   Config
	cgroup string
	ns     string
}

// newHost loads the programs. The daemon's cgroup is the child "daemon", in which
// the test itself runs; web and db are enrolled by cgroups of those names.
func newHost(t testing.TB) *host {
	t.Helper()
	h := bareHost(t)
	var err error
	if h.Objects, err = Load(h.conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.ok(h.Workloads().Put(h.dir("web"), web))
	h.ok(h.Workloads().Put(h.dir("db"), db))
	return h
}

func bareHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the programs need root")
	}
	h := &host{t: t, ns: enterNamespace(t)}
	h.cgroup = testCgroup(t)
	fs := t.TempDir()
	h.ok(unix.Mount("bpf", fs, "bpf", 0, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(fs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.enter("daemon")
	h.conf = Config{PinDir: filepath.Join(fs, "tacit"), Cgroup: h.cgroup, Depth: 1, DaemonCgroup: h.dir("daemon"),
		Range4: testRange4, Range6: testRange6}
	return h
}

func (h *host) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// enterNamespace moves the thread of the test into a new network namespace with the
// routes of the virtual ranges. The thread ends with the test.
func enterNamespace(t testing.TB) string {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set lo up", "ip route add local 240.64.0.0/12 dev lo src 127.0.0.1",
		"ip -6 route add local fd7a:ac17::/32 dev lo src ::1")
	return fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
}

func run(t testing.TB, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

// testCgroup makes a child of the root of the cgroup v2 tree.
func testCgroup(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		dir, err := os.MkdirTemp(strings.Fields(left)[4], "tacit-bpf-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeCgroups(t, dir) })
		return dir
	}
	t.Fatal("no cgroup v2 tree is mounted")
	return ""
}

func removeCgroups(t testing.TB, dir string) {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append([]string{path}, dirs...)
		}
		return nil
	})
	for _, d := range dirs {
		eventually(t, "the cgroup is empty", func() bool { return unix.Rmdir(d) == nil })
	}
}

// dir makes a child cgroup and returns its id, which is its inode number.
func (h *host) dir(name string) uint64 {
	h.t.Helper()
	path := filepath.Join(h.cgroup, name)
	h.ok(os.MkdirAll(path, 0o755))
	var at unix.Stat_t
	h.ok(unix.Stat(path, &at))
	return at.Ino
}

// enter moves the test itself into a child cgroup until it ends.
func (h *host) enter(cgroup string) {
	h.t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	h.ok(err)
	_, home, ok := strings.Cut("\n"+string(text), "\n0::/")
	if !ok {
		h.t.Fatal("the test is in no cgroup of the v2 tree")
	}
	move := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
	}
	h.dir(cgroup)
	h.ok(move(filepath.Join(h.cgroup, cgroup)))
	back := filepath.Join(filepath.Dir(h.cgroup), strings.SplitN(home, "\n", 2)[0])
	h.t.Cleanup(func() {
		if err := move(back); err != nil {
			h.t.Error(err)
		}
	})
}

// command prepares the helper in a child cgroup. It runs in the network namespace of
// the thread that starts it.
func (h *host) command(cgroup string, words ...string) *exec.Cmd {
	h.t.Helper()
	h.dir(cgroup)
	fd, err := unix.Open(filepath.Join(h.cgroup, cgroup), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	h.ok(err)
	h.t.Cleanup(func() { _ = unix.Close(fd) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	h.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVar+"="+strings.Join(words, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	return cmd
}

// do runs the helper to its end and returns the last line it printed.
func (h *host) do(cgroup string, words ...string) string {
	h.t.Helper()
	out, err := h.command(cgroup, words...).Output()
	if len(out) == 0 && err != nil {
		h.t.Fatalf("%s in %s: %v", words, cgroup, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// listen is a plain, not MPTCP, transparent listener in the namespace.
func (h *host) listen(addr string) *net.TCPListener {
	h.t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		})
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(h.t.Context(), "tcp", addr)
	h.ok(err)
	h.t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener)
}

// proxy opens the daemon's listeners for captured connections.
func (h *host) proxy() (v4, v6 *net.TCPListener) {
	h.t.Helper()
	v4, v6 = h.listen("127.0.0.1:0"), h.listen("[::1]:0")
	h.ok(h.SetListeners(Listeners{Proxy: [2]Socket{{fd(h.t, v4), port(v4)}, {fd(h.t, v6), port(v6)}}}))
	return v4, v6
}

func port(ln net.Listener) uint16 { return uint16(ln.Addr().(*net.TCPAddr).Port) }

func fd(t testing.TB, c syscall.Conn) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	out := -1
	if err := raw.Control(func(fd uintptr) { out = int(fd) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// accept returns the next connection within 5 s.
func accept(t testing.TB, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	if err := ln.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.AcceptTCP()
	if err != nil {
		t.Fatalf("nothing arrived at %s: %v", ln.Addr(), err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// allow writes allow intentions.
func (h *host) allow(pairs ...Pair) {
	h.t.Helper()
	for _, p := range pairs {
		h.ok(h.Intentions().Put(p, true))
	}
}

func (h *host) serve(service uint32, port uint16, where Port) {
	h.t.Helper()
	h.ok(h.Ports().Put(PortKey{Service: service}, Port{}))
	h.ok(h.Ports().Put(PortKey{Service: service, Port: port}, where))
}

// lastEvent reads events until one has the reason.
func (h *host) lastEvent(want Reason) Event {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	var found Event
	h.ok(h.Events(ctx, func(e Event) {
		if e.Reason == want {
			found = e
			cancel()
		}
	}))
	if found.Reason != want {
		h.t.Fatalf("no event with reason %d", want)
	}
	return found
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("after 5 s still not: %s", what)
		}
	}
}
