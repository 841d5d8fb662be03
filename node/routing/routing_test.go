// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/definition/external"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/node/seen"
	"tacit/node/store"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
	"tacit/tproxy"
	"tacit/tproxy/socket"
)

// listening is a listener on loopback, and its port.
func listening(t testing.TB) (*net.TCPListener, uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener), uint16(ln.Addr().(*net.TCPAddr).Port)
}

// runs defines an instance on this node, made by user uid; nil is anybody.
func runs(t testing.TB, r *Router, port uint16, uid *uint32) {
	t.Helper()
	d := definition.Definition{Name: "db", ID: "db", Port: port, Source: inventory.SourceCommand, ClientAddress: definition.ClientLoopback, Workload: definition.Workload{UID: uid}}
	if err := r.conf.Inventory.Register(d); err != nil {
		t.Fatal(err)
	}
	r.conf.Inventory.Look()
}

// reason is the reason of a refusal, and its detail.
func reason(t *testing.T, err error) (policy.Reason, string) {
	t.Helper()
	var r *policy.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v is no refusal", err)
	}
	return r.Reason, r.Detail
}

// TestRouterDial reaches a listener of the workload with a socket that carries
// both names.
func TestRouterDial(t *testing.T) {
	tag := &tagged{}
	r := newRouter(t, tag)
	_, port := listening(t)
	runs(t, r, port, nil)
	in := tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"}
	begun, err := r.Dial(t.Context(), in)
	testhost.Must(t, err)
	if begun.FD != tag.fd || len(begun.First) > 0 {
		t.Errorf("%+v, but %d was tagged", begun, tag.fd)
	}
	f, err := socket.Await(t.Context(), begun.FD)
	testhost.Must(t, err)
	defer f.Close()
	to, err := socket.Remote(begun.FD)
	if tag.source != "web" || tag.destination != "db" || err != nil || to.Port() != port {
		t.Errorf("connected to %s, %v, with a socket tagged %s>%s", to, err, tag.source, tag.destination)
	}
}

// TestRouterRefuses, each with its reason.
func TestRouterRefuses(t *testing.T) {
	tag := &tagged{}
	r := newRouter(t, tag)
	ln, port := listening(t)
	at := strconv.Itoa(int(port))
	stranger := uint32(4_000_000)
	in := tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"}
	for _, c := range []struct {
		name   string
		make   func()
		reason policy.Reason
		detail string
	}{
		{"not defined here", func() {}, policy.ReasonInstance, "db port " + at + " doesn't run on this node"},
		{"another program's listener", func() { runs(t, r, port, &stranger) }, policy.ReasonListener, "port " + at + " of db: socket of uid "},
		{"no tag", func() { runs(t, r, port, nil); tag.err = errors.New("the map is full") }, policy.ReasonDial, "db on port " + at + ": dial tcp 127.0.0.1:" + at + ": the map is full"},
		{"nobody listens", func() { _ = ln.Close() }, policy.ReasonDial, "nobody listens on port " + at + " of db"},
	} {
		c.make()
		conn, err := r.Dial(t.Context(), in)
		if got, detail := reason(t, err); conn.FD != -1 || got != c.reason || !strings.HasPrefix(detail, c.detail) {
			t.Errorf("%s: %s: %s; want %s: %s", c.name, got, detail, c.reason, c.detail)
		}
	}
}

// TestRouterWithoutDescriptors: a program isn't taken for another one's because nobody
// can look who it is.
func TestRouterWithoutDescriptors(t *testing.T) {
	r := newRouter(t, &tagged{})
	_, port := listening(t)
	runs(t, r, port, nil)
	for n := range 4 {
		testhost.WithDescriptors(t, n, func() {
			conn, err := r.Dial(t.Context(), tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"})
			if err == nil {
				_ = unix.Close(conn.FD)
				return
			}
			if got, detail := reason(t, err); got != policy.ReasonLimit {
				t.Errorf("with %d descriptors: %s: %s", n, got, detail)
			}
		})
	}
}

// TestRouterLooks only where the kernel doesn't judge the listener or has refused it: a
// port that was taken over since the last look is found out then, with its reason.
func TestRouterLooks(t *testing.T) {
	own, stranger := uint32(os.Getuid()), uint32(4_000_000)
	for _, c := range []struct {
		name   string
		hooks  bool
		uid    *uint32 // of the workload
		taken  bool    // the kernel says so
		closed bool    // since the look
		other  bool    // and another user listens there
		owned  string  // the sockets that are made: whether each has to be judged
		reason policy.Reason
	}{
		{name: "TPROXY", uid: &own, owned: "[false]"},
		{name: "judged by the kernel", hooks: true, uid: &own, owned: "[true]"},
		{name: "no workload to compare with", hooks: true, owned: "[false]"},
		{name: "refused, but it is the workload's", hooks: true, uid: &own, taken: true, owned: "[true false]"},
		{name: "closed", hooks: true, uid: &own, taken: true, closed: true, owned: "[true]", reason: policy.ReasonDial},
		{name: "taken over", hooks: true, uid: &own, taken: true, closed: true, other: true, owned: "[true]", reason: policy.ReasonListener},
		{name: "closed, no workload", hooks: true, closed: true, owned: "[false]", reason: policy.ReasonDial},
		{name: "known to be another's", hooks: true, uid: &stranger, owned: "[]", reason: policy.ReasonListener},
	} {
		tag := &tagged{taken: c.taken}
		r := newRouter(t, tag)
		r.conf.Hooks = c.hooks
		ln, port := listening(t)
		runs(t, r, port, c.uid)
		if c.closed {
			_ = ln.Close()
		}
		if c.other {
			takeOver(t, ln.Addr().String(), stranger)
		}
		begun, err := r.Dial(t.Context(), tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"})
		if begun.FD != -1 {
			_ = unix.Close(begun.FD)
		}
		if got := fmt.Sprint(tag.owned); got != c.owned || policy.ReasonOf(err, "") != c.reason || (err == nil) != (c.reason == "") {
			t.Errorf("%s: %s, %v; want %s, %q", c.name, got, err, c.owned, c.reason)
		}
	}
}

// takeOver listens as another user.
func takeOver(t *testing.T, at string, uid uint32) {
	t.Helper()
	done := make(chan error)
	var ln net.Listener
	go func() {
		runtime.LockOSThread() // and the thread ends with its user
		_, err := unix.SetfsuidRetUid(int(uid))
		if err == nil {
			ln, err = net.Listen("tcp", at)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
}

// BenchmarkDialProgram connects to one of a thousand listeners.
func BenchmarkDialProgram(b *testing.B) {
	for range 999 {
		listening(b)
	}
	own := uint32(os.Getuid())
	for _, hooks := range []bool{false, true} {
		b.Run(fmt.Sprintf("hooks=%t", hooks), func(b *testing.B) {
			r := newRouter(b, &tagged{})
			r.conf.Hooks = hooks
			ln, port := listening(b)
			runs(b, r, port, &own)
			for b.Loop() {
				begun, err := r.Dial(b.Context(), tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"})
				if err != nil {
					b.Fatal(err)
				}
				in, err := ln.Accept()
				if err != nil {
					b.Fatal(err)
				}
				_, _ = unix.Close(begun.FD), in.Close()
			}
		})
	}
}

// TestRouterDialsOutside: only what this node reaches by itself, and never the
// program that has the same port here.
func TestRouterDialsOutside(t *testing.T) {
	r := newRouter(t, &tagged{})
	_, port := listening(t)
	here, anywhere := &statement.Outside{Hosts: []string{"a.example"}}, &statement.Outside{Hosts: []string{"a.example"}, Anywhere: true}
	p := &picture{{Node: "host1", Service: "own", ID: "own", Port: port, Outside: here}, {Node: "host2", Service: "far", ID: "far", Port: port, Outside: here},
		{Node: "host1", Service: "down", ID: "down", Port: port, Outside: here, Down: "address"}, {Node: "host2", Service: "any", ID: "any", Port: port, Outside: anywhere}}
	r.conf.Picture = func() Picture { return p }
	var dialled []string
	r.conf.Outside = func(_ context.Context, in catalog.Instance, c seen.Call) (seen.Dialled, error) {
		dialled = append(dialled, fmt.Sprintf("%s on %s for %s", in.Service, in.Node, c.Source))
		return seen.Dialled{FD: 7}, nil
	}
	d := definition.Definition{Name: "new", ID: "new", Port: port, Source: inventory.SourceCommand, Outside: &external.Place{Hosts: here.Hosts}}
	if err := r.conf.Inventory.Register(d); err != nil {
		t.Fatal(err)
	}
	r.conf.Inventory.Look()
	for _, c := range []struct {
		owner, service identity.Name
		want           string // the reason; "": it is dialled
	}{
		{"", "own", ""}, {"host1", "own", ""}, {"host2", "any", ""},
		{"", "any", "instance"}, {"host2", "far", "instance"}, {"", "far", "instance"}, {"", "down", "instance"}, {"", "new", "instance"},
	} {
		dialled = nil
		_, err := r.Dial(t.Context(), tproxy.Inbound{Source: "web", Destination: c.service, Port: port, Instance: string(c.service), Owner: c.owner})
		if got := string(policy.ReasonOf(err, "")); got != c.want || (c.want == "") != (len(dialled) == 1) {
			t.Errorf("%s of %q: %v, dialled %v; want %q", c.service, c.owner, err, dialled, c.want)
		}
	}
}

// TestRouterIdentifies only connections to virtual addresses of services: the
// daemon's port is no open proxy.
func TestRouterIdentifies(t *testing.T) {
	r := newRouter(t, &tagged{})
	for addr, want := range map[string]struct {
		reason policy.Reason
		detail string
	}{
		"127.0.0.1": {policy.ReasonIdentity, " is no virtual address"},
		"127.0.0.7": {policy.ReasonInstance, " belongs to no service"},
	} {
		ln, err := net.Listen("tcp", addr+":0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		testhost.Must(t, err)
		testhost.Must(t, raw.Control(func(fd uintptr) { _, err = r.Identify(int(fd)) }))
		if got, detail := reason(t, err); got != want.reason || detail != ln.Addr().String()+want.detail {
			t.Errorf("%s: %s: %s; want %s", addr, got, detail, want.reason)
		}
		_, _, _ = client.Close(), conn.Close(), ln.Close()
	}
}

// newRouter is a router of a node that defines nothing yet.
func newRouter(t testing.TB, e *tagged) *Router {
	t.Helper()
	s := &config.Settled{Name: "host1", Addr: netip.MustParseAddr("127.0.0.1"), Config: config.Config{
		Paths: config.Paths{StateDir: t.TempDir(), ServicesDir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)}}
	disk, err := store.Open(s.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	list, err := inventory.Open(inventory.Config{Settings: s, Store: disk, Health: health.NewBoard(), Log: s.Log})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Enforcer: e, Numbers: none{}, Inventory: list, Self: "host1", Picture: func() Picture { return &picture{} },
		Dialer: seen.Dialer{Tag: e.Tag, Virtual: func(identity.Name) (v4, v6 netip.Addr) { return }}})
}

// picture is a mesh with some instances, of nodes that don't answer.
type picture []statement.Instance

func (p *picture) Catalog() *catalog.Catalog {
	return catalog.New("host1", p, func(identity.Name) bool { return false })
}
func (p *picture) Policy() *policy.Table               { return policy.NewTable(policy.Deny, nil) }
func (p *picture) Guest(uint32) identity.Name          { return "" }
func (p *picture) Instances() []statement.Instance     { return *p }
func (p *picture) Vouched(_, _ identity.Name) []string { return nil }
func (p *picture) Resolvers() []resolver.Rules         { return nil }
func (p *picture) Node(identity.Name) (statement.Node, bool) {
	return statement.Node{Address: "192.0.2.1"}, true
}

type none struct{}

func (none) Name(uint32) (identity.Name, bool) { return "", false }

// tagged is an enforcer for which 127.0.0.7 is a virtual address, and that
// remembers the last tag.
type tagged struct {
	fd                  int
	source, destination identity.Name
	owned               []bool // of each socket
	taken               bool   // the kernel refuses the listener
	err                 error
}

func (e *tagged) Tag(fd int, source, destination identity.Name, owned bool) error {
	e.fd, e.source, e.destination, e.owned = fd, source, destination, append(e.owned, owned)
	if owned && e.taken {
		return unix.ECONNREFUSED // as connect() says then
	}
	return e.err
}

func (e *tagged) Origin(int) (kernel.Origin, error) {
	return kernel.Origin{}, errors.New("nothing is recorded")
}

func (e *tagged) NumberOf(a netip.Addr) (uint32, bool) {
	return 7, a == netip.MustParseAddr("127.0.0.7")
}
