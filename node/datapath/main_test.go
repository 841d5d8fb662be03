// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/bpf"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/workload"
	"tacit/policy/kernel"
)

// waitFor is how long a test waits for what the datapath does by itself.
const waitFor = 20 * time.Second

// rootEnv is the hooked root of the host on which this process tests.
const rootEnv = "TACIT_TEST_DATAPATH_ROOT"

// alone reports whether the test runs on a host of its own, and runs it there
// if not. A datapath's goroutines act on the network namespace of whichever
// thread they are on, so the whole process must be in it.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(rootEnv) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := testhost.NewNet(t).Host(t, "host1")
	cmd := host.Command("init", self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "2m")
	cmd.Env = append(cmd.Env, rootEnv+"="+host.Cgroup)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("on a host of its own: %v\n%s", err, out)
	}
	return false
}

func newSettings(t *testing.T) *config.Settled {
	t.Helper()
	s := &config.Settled{Addr: netip.MustParseAddr("127.0.0.1"), Config: config.Config{
		Paths: config.Paths{ResolvConf: filepath.Join(t.TempDir(), "resolv.conf")}, Redirect: config.Auto, LanePort: 7947, GossipPort: 7946,
		Range4: netip.MustParsePrefix("240.64.0.0/10"), Range6: netip.MustParsePrefix("fd7a:ac17::/64"), Log: slog.New(slog.DiscardHandler),
	}}
	testhost.WriteFile(t, s.ResolvConf, "nameserver 10.99.0.53\nsearch mesh.test\n")
	return s
}

// fixture is a datapath without programs in the kernel. Everything else of the
// kernel is real.
type fixture struct {
	*Datapath
	hooks    *fakeHooks
	enforcer *fakeEnforcer
	names    *fakeNames
	board    *health.Board
	settings *config.Settled
	tree     workload.Tree
	changed  chan bool // what Changed was called with
	moved    int
	lane     net.Listener // the lane port
}

// newFixture makes this process a daemon; see alone. What it makes isn't open.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	tree, err := workload.NewTree(os.Getenv(rootEnv))
	testhost.Must(t, err)
	daemon, err := tree.EnterDaemon()
	testhost.Must(t, err)
	f := &fixture{hooks: &fakeHooks{}, enforcer: &fakeEnforcer{}, names: &fakeNames{}, board: health.NewBoard(), settings: newSettings(t), tree: tree, changed: make(chan bool, 64)}
	f.Datapath = New(f.config(daemon))
	t.Cleanup(func() { _ = tree.LeaveDaemon(filepath.Join(tree.Root(), "init")) })
	return f
}

func (f *fixture) config(daemon uint64) Config {
	return Config{Settings: f.settings, Tree: f.tree, Daemon: daemon, Hooks: f.hooks, Enforcer: f.enforcer, Names: f.names, Health: f.board,
		Log: f.settings.Log, Changed: func(sweep bool) { f.changed <- sweep }, Tampered: func(string) { f.changed <- true }, Moved: func() { f.moved++ }, Earlier: func() []int { return nil }}
}

// open opens the datapath until the end of the test, and the ports for other
// nodes, which aren't the datapath's.
func (f *fixture) open(t *testing.T) *fixture {
	t.Helper()
	lane, err := net.Listen("tcp", netip.AddrPortFrom(f.settings.Addr, f.settings.LanePort).String())
	testhost.Must(t, err)
	gossip, err := net.Listen("tcp", netip.AddrPortFrom(f.settings.Addr, f.settings.GossipPort).String())
	testhost.Must(t, err)
	datagrams, err := net.ListenPacket("udp", gossip.Addr().String())
	testhost.Must(t, err)
	t.Cleanup(func() { _, _, _ = lane.Close(), gossip.Close(), datagrams.Close() })
	f.lane = lane
	testhost.Must(t, f.Open(t.Context()))
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// run watches and repairs until the end of the test; it must not fail before.
func (f *fixture) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	receive(t, f.changed) // resolv.conf was read again, and routes and rules were set again
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// accept takes captured connections, as the proxy does, and drops them.
func (f *fixture) accept(t *testing.T) {
	t.Helper()
	var work sync.WaitGroup
	for _, ln := range f.Captured() {
		work.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_ = conn.(*net.TCPConn).SetLinger(-1) // as inherited, closing would reset it while the client connects
				_ = conn.Close()
			}
		})
	}
	t.Cleanup(func() { _ = f.Close(); work.Wait() })
}

// wrong are the problems on the board, one per line.
func wrong(b *health.Board) string {
	var out []string
	for _, p := range b.Problems() {
		out = append(out, p.Key.String()+": "+p.Err.Error())
	}
	return strings.Join(out, "\n")
}

// repaired are the repairs on the board, one per line.
func repaired(b *health.Board) string {
	var out []string
	for _, r := range b.Repairs(time.Time{}) {
		out = append(out, r.Object+": "+r.Found)
	}
	return strings.Join(out, "\n")
}

func differs(t *testing.T, what, got, want string) {
	t.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// shut does to a socket what ss -K does.
func shut(t *testing.T, conn syscall.Conn) {
	t.Helper()
	fd, err := fdOf(conn)
	testhost.Must(t, err)
	testhost.Must(t, unix.Shutdown(fd, unix.SHUT_RDWR))
}

// start starts a program in a child cgroup of the hooked root, and ends it with
// the test.
func start(t *testing.T, tree workload.Tree, cgroup, name string, args ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(tree.Root(), cgroup)
	testhost.Must(t, os.MkdirAll(path, 0o755))
	dir, err := os.Open(path)
	testhost.Must(t, err)
	defer dir.Close()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	testhost.Must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// fakeHooks remember what they were told.
type fakeHooks struct {
	mu        sync.Mutex
	listeners bpf.Listeners
	serving   []int
	resolvers []bpf.Resolver
	daemon    uint64
	found     []bpf.Repaired
	err       error // of SetDaemonCgroup and SetResolvers
}

func (*fakeHooks) LetGo() error { return nil }

func (h *fakeHooks) SetListeners(l bpf.Listeners) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners = l
	return nil
}

func (h *fakeHooks) SetServing(fds ...int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = fds
	return nil
}

func (h *fakeHooks) Listening(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

func (h *fakeHooks) SetResolvers(list []bpf.Resolver) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolvers = list
	return h.err
}

func (h *fakeHooks) SetDaemonCgroup(id uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.daemon = id
	return h.err
}

func (h *fakeHooks) Status() ([]bpf.Hook, error) { return []bpf.Hook{{Name: "connect4"}}, nil }
func (h *fakeHooks) Close() error                { return nil }

func (h *fakeHooks) Repair() []bpf.Repaired {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.found
}

// told is what SetListeners was told last.
func (h *fakeHooks) told() bpf.Listeners {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listeners
}

// captures are the resolvers that SetResolvers was told last.
func (h *fakeHooks) captures() []bpf.Resolver {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.resolvers)
}

// fakeEnforcer holds maps that others may have changed.
type fakeEnforcer struct {
	Enforcer // its other methods aren't called
	mu       sync.Mutex
	verified int
	found    []string
	err      error
}

func (e *fakeEnforcer) Verify() ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.verified++
	return e.found, e.err
}

func (e *fakeEnforcer) Apply(kernel.State) (bool, error) { return false, nil }

// fakeNames answers a query with what was asked: "udp 10.99.0.53:53 QUERY".
type fakeNames struct {
	mu      sync.Mutex
	sockets map[string]io.Closer // that are served, as "udp 127.0.0.1:40000"
}

var errQuery = errors.New("no such query")

// Exchange refuses the query "bad".
func (n *fakeNames) Exchange(_ context.Context, query []byte, network string, resolver netip.AddrPort) ([]byte, error) {
	if string(query) == "bad" {
		return nil, errQuery
	}
	return fmt.Appendf(nil, "%s %s %s", network, resolver, query), nil
}

// Serve holds the listeners, as the server does, and answers nothing.
func (n *fakeNames) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener, _ netip.AddrPort) error {
	n.mu.Lock()
	if n.sockets == nil {
		n.sockets = map[string]io.Closer{}
	}
	n.sockets["udp "+udp.LocalAddr().String()], n.sockets["tcp "+tcp.Addr().String()] = udp, tcp
	n.mu.Unlock()
	<-ctx.Done()
	_, _ = udp.Close(), tcp.Close()
	return nil
}

// lose closes a socket that is served, as others might.
func (n *fakeNames) lose(socket string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[socket] == nil {
		return errors.New(socket + " isn't served")
	}
	return n.sockets[socket].Close()
}

// receive waits for a value, with a deadline.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came within 20 s")
	}
	return v
}
