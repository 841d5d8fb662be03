// SPDX-License-Identifier: Apache-2.0

package testhost_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
)

// TestStockPrograms: two hosts and a container talk through stock programs,
// each process in its own cgroup and namespace from the start.
func TestStockPrograms(t *testing.T) {
	testhost.VerifyNone(t)
	net := testhost.NewNet(t)
	host1, host2 := net.Host(t, "host1"), net.Host(t, "host2")
	box := host2.Container(t, "box")
	serve(t, host2, "web", 8000, "from host2")
	for _, c := range []struct {
		from *testhost.Host
		url  string
	}{
		{host1, fmt.Sprintf("http://%s:8000/", host2.Addr)},
		{host1, fmt.Sprintf("http://[%s]:8000/", host2.Addr6)},
		{box, fmt.Sprintf("http://%s:8000/", host2.Addr)}, // by the default route
	} {
		out, exit := c.from.Run(t, "user", "curl", "-sS", "-g", "--max-time", "5", c.url)
		if exit != 0 || strings.TrimSpace(out) != "from host2" {
			t.Errorf("%s: curl %s: exit %d, %q", c.from.Name, c.url, exit, out)
		}
	}
	if out, exit := host1.Run(t, "user", "curl", "-sS", "http://"+host2.Addr.String()+":8001/"); exit != 7 {
		t.Errorf("nobody listens: exit %d, %s", exit, out)
	}
	out, _ := box.Run(t, "app", "cat", "/proc/self/cgroup", "/etc/resolv.conf")
	for _, want := range []string{"/host2/box/app\n", "nameserver 10.87."} {
		if !strings.Contains(out, want) {
			t.Errorf("in the container: no %q in %s", want, out)
		}
	}
	if info, err := os.Stat(box.CgroupPath("app")); err != nil || !info.IsDir() {
		t.Errorf("CgroupPath: %v", err)
	}
}

func serve(t *testing.T, h *testhost.Host, cgroup string, port int, body string) *testhost.Process {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.Dir, "index.html"), []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	p := h.Start(t, cgroup, testhost.Python(), "-m", "http.server", fmt.Sprint(port), "--bind", "::", "--directory", h.Dir)
	testhost.Eventually(t, 10*time.Second, "web server", func() error {
		conn, err := h.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return p
}

// TestProbe: what the small program says of plain connections.
func TestProbe(t *testing.T) {
	net := testhost.NewNet(t)
	h := net.Host(t, "host1")
	probe := h.Bin("probe")
	echo := h.Start(t, "echo", probe, "listen", ":7", "hello ")
	streams := h.Start(t, "streams", probe, "streams-listen", ":8")
	testhost.Eventually(t, 5*time.Second, "echo", func() error {
		if !strings.Contains(echo.Output(), "listening on [::]:7") {
			return errors.New(echo.Output())
		}
		return nil
	})
	for _, c := range []struct{ args, want string }{
		{"connect 127.0.0.1:7", "peer=127.0.0.1:7\n"},
		{"connect nonblock [::1]:7", "peer=[::1]:7\n"},
		{"connect [::ffff:127.0.0.1]:7", "peer=[::ffff:127.0.0.1]:7\n"},
		{"connect fastopen 127.0.0.1:7", "peer=127.0.0.1:7\n"},
		{"connect nonblock 127.0.0.1:9", "connect: ECONNREFUSED\n"},
		{"connect 127.0.0.1:9", "connect: ECONNREFUSED\n"},
		{"connect 203.0.113.1:9", "connect: ENETUNREACH\n"},
		{"ask 127.0.0.1:7 world", "hello world"},
		{"udp 127.0.0.1:9 x", "ok\n"},
		{"streams 127.0.0.1:8 20 bytes 100000", "ended ok=20 "},
		{"streams 127.0.0.1:8 9 half 100000", "ended ok=9 "},
		{"streams 127.0.0.1:8 9 half-back 100000", "ended ok=9 "},
		{"streams 127.0.0.1:8 9 server-reset", "ended ok=9 "},
		{"streams 127.0.0.1:8 9 client-reset", "ended ok=9 "},
		{"streams 127.0.0.1:8 2 get 9000000 50", "ended ok=2 "},
		{"streams 127.0.0.1:8 2 put 9000000 50", "ended ok=2 "},
		{"streams 127.0.0.1:8 1 ping 9", "ping p50="},
		{"streams 127.0.0.1:9 2 ping 9", "ended failed=2 "},
	} {
		out, _ := h.Run(t, "user", probe, strings.Fields(c.args)...)
		if !strings.Contains(out, c.want) {
			t.Errorf("probe %s: %q, want %q", c.args, out, c.want)
		}
	}
	for _, op := range []string{"hold", "trickle", "flood", "pour", "sip", "gulp"} {
		ended := h.Start(t, "user", probe, "streams", "127.0.0.1:8", "2", op)
		testhost.AwaitText(t, 5*time.Second, op, "open 2\n", ended.Output)
		ended.Signal(unix.SIGTERM)
		testhost.AwaitText(t, 5*time.Second, op+", ended", "ended ok=2 ", ended.Output)
		cut := h.Start(t, "user", probe, "streams", "127.0.0.1:8", "2", op)
		testhost.AwaitText(t, 5*time.Second, op, "open 2\n", cut.Output)
		streams.Signal(unix.SIGUSR1)
		testhost.AwaitText(t, 5*time.Second, op+", cut", "ended reset=2 ", cut.Output)
	}
	plain := h.Start(t, "user", probe, "streams", "127.0.0.1:8", "1", "hold")
	testhost.AwaitText(t, 5*time.Second, "hold", "open 1\n", plain.Output)
	streams.Signal(unix.SIGKILL)
	testhost.AwaitText(t, 5*time.Second, "hold, the other program is killed", "ended eof=1 ", plain.Output)
}

// TestDoStaysInside: sockets made in Do belong to the host, the test's own
// threads don't.
func TestDoStaysInside(t *testing.T) {
	testhost.VerifyNone(t)
	hosts := testhost.NewNet(t)
	h := hosts.Host(t, "host1")
	ln, err := h.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if c, err := net.DialTimeout("tcp", ln.Addr().String(), time.Second); err == nil {
		c.Close()
		t.Error("the host's loopback is reached from outside")
	}
	c, err := h.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := h.Do(func() error { return unix.ENOTTY }); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("Do returned %v", err)
	}
}

// TestLeaks: each kind of thing that may be left on a host is seen.
func TestLeaks(t *testing.T) {
	h := testhost.NewNet(t).Host(t, "host1")
	for _, c := range []struct{ name, make, undo string }{
		{"route", "ip route add local 240.64.0.0/12 dev lo", "ip route del local 240.64.0.0/12 dev lo"},
		{"rule", "ip -6 rule add fwmark 7 lookup 77", "ip -6 rule del fwmark 7"},
		{"chain", "iptables -t mangle -N TACIT-X", "iptables -t mangle -X TACIT-X"},
		{"sysctl", "sysctl -w net.ipv4.tcp_fwmark_accept=1", "sysctl -w net.ipv4.tcp_fwmark_accept=0"},
		{"address", "ip addr add 192.0.2.1/32 dev lo", "ip addr del 192.0.2.1/32 dev lo"},
		{"run", "mkdir -p " + h.RunDir + "/x/y && touch " + h.RunDir + "/x/y/z", "rm -r " + h.RunDir},
		{"cgroup", "mkdir -p " + h.CgroupPath("tacit/daemon"), "rmdir " + h.CgroupPath("tacit/daemon") + " " + h.CgroupPath("tacit")},
	} {
		seen := &recorder{TB: t}
		check := h.Leaks(t)
		before := h.Snapshot(t)
		sh(t, h, c.make)
		if h.Snapshot(t) == before {
			t.Errorf("%s: not seen", c.name)
		}
		sh(t, h, c.undo)
		check()
		if seen.failed {
			t.Errorf("%s: still seen after it was undone", c.name)
		}
	}
}

func sh(t *testing.T, h *testhost.Host, line string) {
	t.Helper()
	if out, exit := h.Run(t, "", "sh", "-ec", line); exit != 0 {
		t.Fatalf("%s: exit %d: %s", line, exit, out)
	}
}

// recorder is a test that may fail without failing this one.
type recorder struct {
	testing.TB
	failed bool
	clean  []func()
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Cleanup(f func())      { r.clean = append(r.clean, f) }

// TestVerifyNone: a goroutine or a descriptor that stays is found.
func TestVerifyNone(t *testing.T) {
	for _, c := range []struct {
		name string
		leak func(stop chan struct{}) (undo func())
	}{
		{"goroutine", func(stop chan struct{}) func() {
			go func() { <-stop }()
			return func() {}
		}},
		{"descriptor", func(chan struct{}) func() {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return func() { f.Close() }
		}},
	} {
		r := &recorder{TB: t}
		testhost.VerifyNone(r)
		stop := make(chan struct{})
		undo := c.leak(stop)
		r.clean[0]()
		undo()
		close(stop)
		if !r.failed {
			t.Errorf("%s: not found", c.name)
		}
	}
}

// TestNothingStays: the test's end takes everything away, running programs
// included, and a dead process's things are found by the next.
func TestNothingStays(t *testing.T) {
	var h *testhost.Host
	t.Run("host", func(t *testing.T) {
		h = testhost.NewNet(t).Host(t, "host1")
		cmd := h.Command("stays", "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
	})
	for _, path := range []string{h.Dir, h.Namespace(), h.Cgroup, filepath.Dir(h.Cgroup), h.Net().Dir(), h.Net().Namespace()} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	dead := filepath.Join(filepath.Dir(filepath.Dir(h.Cgroup)), "tacit-test-4194305-1") // above pid_max
	if err := os.MkdirAll(filepath.Join(dead, "host1", "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	testhost.NewNet(t)
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead test's cgroup stays: %v", err)
	}
}
