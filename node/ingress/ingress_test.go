// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/policy"
	"tacit/redirect/listen"
	"tacit/tproxy"
	"tacit/tproxy/accept"
)

// fixture is a manager on a mesh of which the test says everything. Whoever it lets
// in is answered with the port to which the connection would go.
type fixture struct {
	*Manager
	t     *testing.T
	board *health.Board

	mu      sync.Mutex
	rules   []policy.Intention
	ports   []uint16 // of web
	healthy bool
	owners  map[uint16]string
	changes int
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, board: health.NewBoard(), ports: []uint16{80}, healthy: true, owners: map[uint16]string{},
		rules: []policy.Intention{{Source: "ingress/a", Destination: "web", Action: policy.Allow}}}
	f.Manager = New(Config{Policy: f.policy, Catalog: func() Catalog { return f }, Owner: f.owner,
		Serve: serve, Changed: func() { f.with(func() { f.changes++ }) }, Health: f.board, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fixture) owner(port uint16) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owners[port]
}

func (f *fixture) policy() *policy.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return policy.NewTable(policy.Deny, f.rules)
}

func (f *fixture) DefaultPort(identity.Name) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ports) == 1 {
		return f.ports[0]
	}
	return 0
}

func (f *fixture) Check(_ identity.Name, port uint16, _ func(identity.Name) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.healthy:
		return policy.Refuse(policy.ReasonInstance, "none")
	case !slices.Contains(f.ports, port):
		return policy.Refuse(policy.ReasonPort, "no port %d", port)
	}
	return nil
}

// serve tells each connection where it goes, and keeps it until the client ends it.
func serve(ctx context.Context, ln accept.Listener, e tproxy.Entry) error {
	return accept.Batch(ctx, ln, func(fd int) {
		conn := os.NewFile(uintptr(fd), "client")
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
		o, err := e.Identify(fd)
		if err != nil {
			fmt.Fprint(conn, policy.ReasonOf(err, ""))
			_ = conn.Close()
			return
		}
		fmt.Fprintf(conn, "%s %s %d %s", o.Source, o.Destination, o.Port, o.Client.Addr())
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
			e.Left(o)
		}()
	})
}

// free is a port that nobody has.
func free(t *testing.T) uint16 {
	t.Helper()
	ln, err := listen.Plain(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	testhost.Must(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

func at(name identity.Name, port uint16) definition.Definition {
	return definition.Definition{Name: name, ID: string(name),
		Ingress: &definition.Ingress{Address: "127.0.0.1", Port: port, Service: "web", MaxConnections: 3, MaxPerClient: 2}}
}

// call returns what a client reads first, and its connection.
func call(t *testing.T, port uint16) (string, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused", nil
	}
	testhost.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	testhost.Must(t, err)
	return string(buf[:n]), conn
}

// problem is what status says about ingress a.
func (f *fixture) problem() string {
	if err := f.board.Get(health.Ingress, "a"); err != nil {
		return err.Error()
	}
	return ""
}

// TestOpensAndCloses: the port is open exactly while the ingress is defined, an
// intention names it, and the service can take a connection.
func TestOpensAndCloses(t *testing.T) {
	f, port := newFixture(t), free(t)
	def := []definition.Definition{at("ingress/a", port)}
	def[0].Ingress.MaxConnections, def[0].Ingress.MaxPerClient = 100, 100
	allowed := f.rules
	const open = "ingress/a web 80 127.0.0.1"
	for _, step := range []struct {
		name    string
		change  func()
		answer  string
		closed  string // as other nodes learn it
		problem string
	}{
		{"open", func() {}, open, "", ""},
		{"no rule", func() { f.rules = nil }, "refused", "default", ""},
		{"a rule for all", func() { f.rules = []policy.Intention{{Source: "*", Destination: "*", Action: policy.Allow}} }, "refused", "default", ""},
		{"a deny", func() { f.rules = []policy.Intention{{Source: "ingress/a", Destination: "web", Action: policy.Deny}} }, "refused", "intention", ""},
		{"allowed again", func() { f.rules = allowed }, open, "", ""},
		{"nobody serves", func() { f.healthy = false }, "refused", "instance", ""},
		{"somebody serves", func() { f.healthy = true }, open, "", ""},
		{"two ports", func() { f.ports = []uint16{80, 81} }, "refused", "port", "service_port"},
		{"a port is named", func() { def[0].Ingress.ServicePort = 81 }, "ingress/a web 81 127.0.0.1", "", ""},
		{"a service has the port", func() { f.owners[port] = "db" }, "refused", "listener", "the port of db"},
		{"it has gone", func() { delete(f.owners, port) }, "ingress/a web 81 127.0.0.1", "", ""},
		{"not defined", func() { def = nil }, "refused", "listener", ""},
	} {
		var changes, after int
		before := f.Closed("ingress/a")
		f.with(func() { step.change(); changes = f.changes })
		f.Set(def)
		f.with(func() { after = f.changes })
		if got, _ := call(t, port); got != step.answer {
			t.Errorf("%s: %s, want %s", step.name, got, step.answer)
		}
		if got := f.Closed("ingress/a"); got != step.closed {
			t.Errorf("%s: closed for %q, want %q", step.name, got, step.closed)
		}
		if got := f.problem(); (got == "") != (step.problem == "") || !strings.Contains(got, step.problem) {
			t.Errorf("%s: problem %q, want %q", step.name, got, step.problem)
		}
		if said := after > changes; said != (step.closed != before) && len(def) > 0 {
			t.Errorf("%s: told of a change: %t", step.name, said)
		}
	}
}

// TestPortInUse: status says so, and the port is opened when it is free.
func TestPortInUse(t *testing.T) {
	f := newFixture(t)
	other, err := listen.Plain(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	testhost.Must(t, err)
	port := other.Addr().(*net.TCPAddr).AddrPort().Port()
	f.Set([]definition.Definition{at("ingress/a", port)})
	if got := f.problem(); !strings.Contains(got, fmt.Sprintf("port %d: address already in use", port)) {
		t.Errorf("problem %q", got)
	}
	testhost.Must(t, other.Close())
	testhost.Eventually(t, 10*time.Second, "the port is open", func() error {
		if got, _ := call(t, port); got == "refused" || f.problem() != "" {
			return fmt.Errorf("%s, problem %q", got, f.problem())
		}
		return nil
	})
}

// TestMoves: another port, limit or name is no reason to end connections; another
// service, and the end of the definition, are.
func TestMoves(t *testing.T) {
	f, first, second := newFixture(t), free(t), free(t)
	f.Set([]definition.Definition{at("ingress/a", first)})
	d := f.doors["ingress/a"]
	f.Set([]definition.Definition{at("ingress/a", second)})
	if got, _ := call(t, first); got != "refused" {
		t.Errorf("the old port: %s", got)
	}
	if got, _ := call(t, second); got == "refused" || !d.Holds() || f.doors["ingress/a"] != d {
		t.Errorf("the new port: %s; holds: %t", got, d.Holds())
	}
	elsewhere := at("ingress/a", second)
	elsewhere.Ingress.ServicePort = 80
	f.Set([]definition.Definition{elsewhere})
	if d.Holds() {
		t.Error("connections to the old port of the service go on")
	}
	d = f.doors["ingress/a"]
	f.Set(nil)
	if d.Holds() {
		t.Error("connections of an ingress that is gone go on")
	}
}

// TestLimits: an ingress has so many connections, and so many of one client; one
// that ends makes room.
func TestLimits(t *testing.T) {
	f, port := newFixture(t), free(t)
	def := at("ingress/a", port)
	f.Set([]definition.Definition{def})
	_, one := call(t, port)
	call(t, port)
	if got, _ := call(t, port); got != string(policy.ReasonLimit) {
		t.Errorf("a third of one client: %s", got)
	}
	def.Ingress.MaxPerClient = 9
	f.Set([]definition.Definition{def})
	call(t, port)
	if got, _ := call(t, port); got != string(policy.ReasonLimit) {
		t.Errorf("a fourth in all: %s", got)
	}
	testhost.Must(t, one.Close())
	testhost.Eventually(t, 10*time.Second, "there is room", func() error {
		if got, _ := call(t, port); got == string(policy.ReasonLimit) {
			return errors.New(got)
		}
		return nil
	})
}

// TestSite: an IPv6 host has all addresses of its network.
func TestSite(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1:2:3:4": "2001:db8::", "2001:db8::5": "2001:db8::", "fe80::1%eth0": "fe80::"} {
		if got := site(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

// TestAt: without an address, an ingress listens at all of them.
func TestAt(t *testing.T) {
	for _, c := range []struct {
		address string
		ipv6    bool
		want    string
	}{{"", true, "[::]:80"}, {"", false, "0.0.0.0:80"}, {"192.0.2.1", true, "192.0.2.1:80"}, {"::1", true, "[::1]:80"}} {
		d := newDoor("ingress/a", definition.Ingress{Address: c.address, Port: 80}, nil)
		if got := d.at(c.ipv6).String(); got != c.want {
			t.Errorf("%q: %s, want %s", c.address, got, c.want)
		}
	}
}
