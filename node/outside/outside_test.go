// SPDX-License-Identifier: Apache-2.0

package outside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/catalog"
	"tacit/node/dns/client"
	"tacit/node/health"
	"tacit/node/seen"
	"tacit/policy/ledger/statement"
	"tacit/tproxy/socket"
)

// fixture is a Reach without a network.
type fixture struct {
	*Reach
	board *health.Board

	mu        sync.Mutex
	answer    client.Answer
	err       error
	looked    int
	dialled   []string
	refused   map[string]bool // at once
	closed    map[string]bool // nobody listens there, which shows later
	listening int             // the port on 127.0.0.1 that accepts
	t         *testing.T
	changed   int
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{board: health.NewBoard(), refused: map[string]bool{}, closed: map[string]bool{}}
	f.Reach = New(Config{
		Own: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
		},
		Member: func(a netip.Addr) (identity.Name, bool) {
			return "host2", a == netip.MustParseAddr("10.0.0.2")
		},
		Ranges:  []netip.Prefix{netip.MustParsePrefix("240.64.0.0/12"), netip.MustParsePrefix("fd7a:ac17::/32")},
		Dial:    f.dial,
		Changed: func() { f.changed++ },
		Health:  f.board, Log: slog.New(slog.DiscardHandler),
	})
	f.look = func(context.Context, identity.Name, string) (client.Answer, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.looked++
		return f.answer, f.err
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	testhost.Must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	f.t, f.listening = t, ln.Addr().(*net.TCPAddr).Port
	return f
}

func (f *fixture) dial(c seen.Call) (seen.Dialled, error) {
	f.dialled = append(f.dialled, fmt.Sprintf("%s %s %v %q", c.Source, c.To, c.Outside, c.Show))
	if f.refused[c.To.String()] {
		return seen.Dialled{FD: -1}, errors.New("refused by " + c.To.String())
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	testhost.Must(f.t, err)
	to := unix.SockaddrInet4{Port: f.listening, Addr: [4]byte{127, 0, 0, 1}}
	if f.closed[c.To.String()] {
		to.Addr[3] = 2
	}
	if err := unix.Connect(fd, &to); err != unix.EINPROGRESS {
		f.t.Errorf("connect to %+v: %v", to, err)
	}
	return seen.Dialled{FD: fd, First: []byte("header")}, nil
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// here is an instance of this node.
func here(o statement.Outside) catalog.Instance {
	return catalog.Instance{Here: true, Instance: statement.Instance{Node: "host1", Service: "rds", ID: "rds", Port: 5432, Outside: &o}}
}

// TestJudge: what can be outside of the mesh.
func TestJudge(t *testing.T) {
	f := newFixture(t)
	for addr, want := range map[string]string{
		"203.0.113.5": "", "10.0.0.3": "", "2001:db8::5": "", "192.168.1.1": "",
		"10.0.0.1": "10.0.0.1 is this node's own address", "::ffff:10.0.0.1": "10.0.0.1 is this node's own address", "fd00::1": "fd00::1 is this node's own address",
		"10.0.0.2": "10.0.0.2 is the address of the node host2", "240.64.0.9": "240.64.0.9 is a virtual address of the mesh", "fd7a:ac17::9": "fd7a:ac17::9 is a virtual address of the mesh",
		"127.0.0.53": "127.0.0.53 is a loopback address", "::1": "::1 is a loopback address", "0.0.0.0": "0.0.0.0 is no address",
		"169.254.169.254": "169.254.169.254 is a link-local address, where the host's metadata service may be", "224.0.0.1": "224.0.0.1 is not one host's address",
	} {
		if got := fmt.Sprint(f.Judge(netip.MustParseAddr(addr))); got != want && (got != "<nil>" || want != "") {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// TestDialTriesAll addresses in order, also where one refuses later, and never one
// that isn't outside. A connection to the only address isn't waited for.
func TestDialTriesAll(t *testing.T) {
	f := newFixture(t)
	in := here(statement.Outside{Addresses: []string{"10.0.0.1:5432", "203.0.113.5:5432", "203.0.113.6:5432", "[2001:db8::5]:5433", "203.0.113.7:5432"}, Header: true})
	f.refused["203.0.113.5:5432"], f.closed["203.0.113.6:5432"] = true, true
	conn, err := f.Dial(t.Context(), in, seen.Call{Source: "web"})
	testhost.Must(t, err)
	if peer, err := socket.Remote(conn.FD); err != nil || int(peer.Port()) != f.listening || string(conn.First) != "header" {
		t.Errorf("connected to %s with %q, %v", peer, conn.First, err)
	}
	testhost.Must(t, unix.Close(conn.FD))
	if want := []string{`web 203.0.113.5:5432 true "proxy_protocol"`, `web 203.0.113.6:5432 true "proxy_protocol"`, `web [2001:db8::5]:5433 true "proxy_protocol"`}; !slices.Equal(f.dialled, want) {
		t.Errorf("dialled %v, want %v", f.dialled, want)
	}
	in = here(statement.Outside{Addresses: []string{"203.0.113.6:5432", "203.0.113.5:5432"}})
	if _, err := f.Dial(t.Context(), in, seen.Call{}); err == nil || err.Error() != "dial tcp 203.0.113.6:5432: connect: connection refused\nrefused by 203.0.113.5:5432" {
		t.Error(err)
	}
	in = here(statement.Outside{Addresses: []string{"203.0.113.6:5432"}})
	conn, err = f.Dial(t.Context(), in, seen.Call{})
	testhost.Must(t, err)
	testhost.Must(t, unix.Close(conn.FD))
	in = here(statement.Outside{Addresses: []string{"203.0.113.5:5432"}})
	if _, err := f.Dial(t.Context(), in, seen.Call{}); err == nil || err.Error() != "refused by 203.0.113.5:5432" {
		t.Error(err)
	}
	in = here(statement.Outside{Addresses: []string{"10.0.0.2:5432"}})
	if _, err := f.Dial(t.Context(), in, seen.Call{}); err == nil || err.Error() != "no address of rds is known: 10.0.0.2 is the address of the node host2" {
		t.Error(err)
	}
}

// TestNames: a name is looked up before it is used, again when its answer ends, and
// an instance without an address is down.
func TestNames(t *testing.T) {
	f := newFixture(t)
	in := here(statement.Outside{Hosts: []string{"a.example"}})
	f.answer = client.Answer{Addrs: addrs("203.0.113.5", "127.0.0.1"), TTL: time.Minute}
	f.Follow([]catalog.Instance{in})
	if why := f.Down("rds"); why != "" {
		t.Errorf("before the first look-up it is down: %s", why)
	}
	if to, err := f.ByID("rds"); err != nil || fmt.Sprint(to) != "[203.0.113.5:5432]" {
		t.Error(to, err)
	}
	if _, err := f.ByID("other"); err == nil {
		t.Error("an instance that doesn't exist has an address")
	}
	f.refresh(t.Context())
	if err := f.board.Get(health.Resolve, "a.example"); err == nil || err.Error() != "127.0.0.1 is a loopback address" {
		t.Error(err)
	}
	if f.looked != 1 || f.changed != 1 {
		t.Errorf("%d look-ups, %d changes", f.looked, f.changed)
	}
	f.names["a.example"].due = time.Time{}
	f.answer, f.err = client.Answer{}, client.ErrNoAddress
	if wait, any := f.refresh(t.Context()); !any || wait > retryTime {
		t.Error(wait, any)
	}
	if why := f.Down("rds"); why != statement.DownAddress || f.changed != 2 {
		t.Error(why, f.changed)
	}
	if err := f.board.Get(health.Resolve, "a.example"); err == nil || err.Error() != "rds: has no address" {
		t.Error(err)
	}
	f.Follow(nil)
	if _, any := f.refresh(t.Context()); any || f.board.Get(health.Resolve, "a.example") != nil {
		t.Error("a name that nobody uses is kept")
	}
}

// TestTake: TTLs are bounded; an answer outlives its TTL while no resolver gives
// another one, but not for ever, and not if a resolver says that there is none.
func TestTake(t *testing.T) {
	start := time.Now()
	good := client.Answer{Addrs: addrs("203.0.113.5")}
	for _, c := range []struct {
		ttl, want time.Duration
	}{{0, minTTL}, {time.Minute, time.Minute}, {time.Hour, maxTTL}} {
		good.TTL = c.ttl
		n := &name{}
		if changed := n.take(good, nil, start); !changed || n.due.Sub(start) != c.want {
			t.Errorf("TTL %s is kept for %s, want %s", c.ttl, n.due.Sub(start), c.want)
		}
	}
	for _, c := range []struct {
		err     error
		after   time.Duration
		changed bool
		left    int
	}{
		{errors.New("timeout"), staleTime, false, 1}, {errors.New("timeout"), staleTime + 1, true, 0}, {client.ErrNoAddress, 1, true, 0},
	} {
		n := &name{service: "rds"}
		n.take(good, nil, start)
		if changed := n.take(client.Answer{}, c.err, start.Add(c.after)); changed != c.changed || len(n.addrs) != c.left || n.err == nil || !strings.HasPrefix(n.err.Error(), "rds: ") {
			t.Errorf("%v after %s: changed %v, %v, %v", c.err, c.after, changed, n.addrs, n.err)
		}
	}
	n := &name{}
	n.take(client.Answer{Addrs: addrs("203.0.113.5", "203.0.113.6")}, nil, start)
	if n.take(client.Answer{Addrs: addrs("203.0.113.6", "203.0.113.5")}, nil, start) {
		t.Error("another order counts as a change")
	}
}

// TestRun looks up what is followed, and ends with its context.
func TestRun(t *testing.T) {
	f := newFixture(t)
	f.answer = client.Answer{Addrs: addrs("203.0.113.5"), TTL: time.Minute}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	f.Follow([]catalog.Instance{here(statement.Outside{Hosts: []string{"a.example"}})})
	testhost.Eventually(t, 5*time.Second, "the name is looked up", func() error {
		if len(f.Known(here(statement.Outside{Hosts: []string{"a.example"}}))) == 0 {
			return errors.New("no address is known")
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
