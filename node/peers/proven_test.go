// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/health"
	"tacit/policy/ledger/statement"
)

// of are a node's proven addresses, by n.
func (n node) of(name identity.Name) string {
	var out []string
	for _, a := range n.Of(catalog.Instance{Instance: statement.Instance{Node: name}}) {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// proves waits until n has proven just these addresses of a node, and said so.
func (n node) proves(t *testing.T, name identity.Name, want string) {
	t.Helper()
	n.Found()
	eventually(t, string(name)+" at "+want, func() bool { return n.of(name) == want })
	<-n.changed
}

// TestProving follows what n1 proves of n2, which listens at 127.0.0.2 and says
// that it is elsewhere, too.
func TestProving(t *testing.T) {
	m := newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	n2 := m.start(t, "n2", "127.0.0.2")
	m.start(t, "n3", "127.0.0.3")
	m.says("n1", "127.0.0.1")

	m.says("n2", "127.0.0.2", "127.0.0.3", "127.0.0.4", "no address") // n3's, and nobody's
	n1.proves(t, "n2", "127.0.0.2")
	n2.further.siblings = func(netip.Addr) ([]netip.Addr, error) { return addrs("127.0.0.4"), nil }
	n2.Addresses()
	n1.proves(t, "n2", "127.0.0.2 127.0.0.4")
	m.says("n3", "127.0.0.3")
	n1.proves(t, "n3", "127.0.0.3")

	n2.end() // what is proven stays while the node is down
	n1.Found()
	m.says("n2", "127.0.0.4")
	n1.proves(t, "n2", "127.0.0.4") // and goes with the record
	if n1.of("n3") != "127.0.0.3" || n1.of("n1") != "" {
		t.Errorf("n3 at %q, n1 at %q", n1.of("n3"), n1.of("n1"))
	}
}

// TestProvingNeedsTheNode: not its port alone, nor its liveness.
func TestProvingNeedsTheNode(t *testing.T) {
	m := newMesh(t)
	conf, _ := m.config(t, "n1", "127.0.0.1", t.TempDir())
	m.start(t, "n2", "127.0.0.2")
	m.says("n2", "127.0.0.2")
	m.dies("n2")
	for _, c := range []struct {
		name   string
		claim  claim
		check  identity.PeerCheck
		proven bool
	}{
		{"it", claim{"n2", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), m.port)}, nil, true},
		{"revoked", claim{"n2", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), m.port)}, revoked, false},
		{"another node", claim{"n3", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), m.port)}, nil, false},
		{"nobody", claim{"n2", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), m.port)}, nil, false},
	} {
		conf.Check = c.check
		if got := (&Peers{conf: conf}).isAt(t.Context(), c.claim); got != c.proven {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if pending, changed := (&Peers{conf: conf}).prove(t.Context()); pending || changed {
		t.Error("a node that doesn't answer gossip was tried")
	}
}

func revoked(identity.ID, []identity.KeyID) error { return errors.New("revoked") }

func TestOf(t *testing.T) {
	p := &Peers{proven: proven{at: map[identity.Name][]netip.Addr{"n2": addrs("192.0.2.1", "192.0.2.2")}}}
	for _, c := range []struct {
		node    identity.Name
		address string // of the instance; "": the node's
		want    []netip.Addr
	}{
		{"n2", "", addrs("192.0.2.1", "192.0.2.2")},
		{"n2", "192.0.2.2", addrs("192.0.2.2")},
		{"n2", "192.0.2.3", nil},
		{"n3", "", nil},
		{"n3", "192.0.2.1", nil},
	} {
		in := catalog.Instance{Instance: statement.Instance{Node: c.node, Address: c.address}}
		if c.address != "" {
			in.Addr = netip.AddrPortFrom(netip.MustParseAddr(c.address), 5432)
		}
		if got := p.Of(in); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.node, c.address, got, c.want)
		}
	}
}

// TestProvenIsKept: after a restart, before anybody answers, and in the form
// that earlier versions wrote.
func TestProvenIsKept(t *testing.T) {
	m := newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	m.start(t, "n2", "127.0.0.2")
	m.says("n2", "127.0.0.2")
	n1.proves(t, "n2", "127.0.0.2")
	text, err := n1.conf.Store.Get("proven")
	if err != nil || string(text) != `{"n2":["127.0.0.2"]}` {
		t.Errorf("kept %s, %v", text, err)
	}
	again, err := New(n1.conf, n1.port)
	must(t, err)
	if got := (node{Peers: again}).of("n2"); got != "127.0.0.2" {
		t.Errorf("after a restart n2 is at %q", got)
	}
	must(t, n1.conf.Store.Set("proven", []byte("{")))
	if _, err := New(n1.conf, n1.port); err == nil || !strings.Contains(err.Error(), "state: proven: ") {
		t.Errorf("a damaged setting: %v", err)
	}
}

// fullDisk fails to keep anything while full is set.
type fullDisk struct {
	Store
	full *bool
}

var errFull = errors.New("no space left")

func (d fullDisk) Set(name string, value []byte) error {
	if *d.full {
		return errFull
	}
	return d.Store.Set(name, value)
}

// TestProvingPauses: the loop looks again only while a node that answers has an
// address that isn't proven, ever more rarely, or what is proven can't be kept.
func TestProvingPauses(t *testing.T) {
	proven := map[identity.Name][]netip.Addr{"n2": addrs("127.0.0.1")}
	for _, c := range []struct {
		name   string
		say    func(*mesh)
		proven map[identity.Name][]netip.Addr
		full   bool
		looks  int // in an hour
	}{
		{"nobody else", func(*mesh) {}, nil, false, 1},
		{"all is proven", func(m *mesh) { m.says("n2", "127.0.0.1") }, proven, false, 1},
		{"a node that doesn't answer", func(m *mesh) { m.says("n2", "127.0.0.1"); m.dies("n2") }, nil, false, 1},
		{"a node that isn't there", func(m *mesh) { m.says("n2", "127.0.0.1") }, nil, false, 30},
		{"a full disk", func(*mesh) {}, proven, true, 721},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t)
			m.port = 1 // nobody listens there
			c.say(m)
			conf, _ := m.config(t, "n1", "127.0.0.1", t.TempDir())
			conf.Store = fullDisk{conf.Store, &c.full}
			p := &Peers{conf: conf, found: make(chan struct{}, 1)}
			p.proven.at = c.proven
			ended := make(chan error, 1)
			go func() { ended <- p.keepProving(t.Context()) }()
			t.Cleanup(func() { must(t, <-ended) })
			<-time.After(time.Hour + time.Second)
			synctest.Wait()
			if m.looks > c.looks || m.looks < c.looks/2 || c.looks == 1 && m.looks != 1 {
				t.Errorf("%s: looked %d times, want %d", c.name, m.looks, c.looks)
			}
			if err := conf.Health.(*health.Board).Get(health.Proven, ""); c.full != (err != nil) {
				t.Errorf("%s: problem %v", c.name, err)
			}
			c.full = false
			p.Found()
			synctest.Wait()
			if err := conf.Health.(*health.Board).Get(health.Proven, ""); err != nil {
				t.Errorf("%s: left %v", c.name, err)
			}
		})
	}
}

// dials counts the attempts that failed, by the lines of the log.
type dials struct {
	slog.Handler
	count *atomic.Int64
}

func (d dials) Enabled(context.Context, slog.Level) bool { return true }

func (d dials) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "a node isn't where its record says" {
		d.count.Add(1)
	}
	return nil
}

// TestListedAddressesAreSpared: a member that lists the addresses of others has each
// node dial them some times, not every 5 s: in an hour 33 addresses were dialled 23,760
// times by each node. Other records, or coming and going, change little.
func TestListedAddressesAreSpared(t *testing.T) {
	list := func(from int) (out []string) {
		for i := range 32 {
			out = append(out, fmt.Sprintf("127.1.%d.%d", from%256, i+1))
		}
		return out
	}
	for name, meanwhile := range map[string]func(m *mesh, minute int){
		"one record":        func(*mesh, int) {},
		"a record a minute": func(m *mesh, minute int) { m.says("n2", "127.0.0.2", list(minute)...) },
		"coming and going": func(m *mesh, minute int) {
			m.says("n2", "127.0.0.2", list(0)...)
			if minute%2 == 0 {
				m.dies("n2")
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t)
			m.port = 1 // nobody listens there
			m.says("n2", "127.0.0.2", list(0)...)
			conf, _ := m.config(t, "n1", "127.0.0.1", t.TempDir())
			var count atomic.Int64
			conf.Log = slog.New(dials{slog.DiscardHandler, &count})
			p := &Peers{conf: conf, found: make(chan struct{}, 1)}
			for now, minute := time.Now(), 0; minute < 60; minute++ {
				meanwhile(m, minute)
				for end := now.Add(time.Minute); now.Before(end); now = time.Now() {
					p.prove(t.Context()) // as if records came all the time
					<-time.After(time.Second)
				}
			}
			if most := triesAtOnce + int(time.Hour/triesEvery); count.Load() > int64(most) || count.Load() < 33 {
				t.Errorf("%s: %d dials in an hour, at most %d", name, count.Load(), most)
			}
			t.Logf("%s: %d dials in an hour", name, count.Load())
		})
	}
}

// TestTriesRecover: an address is tried at once when its node comes back.
func TestTriesRecover(t *testing.T) {
	c := claim{"n2", netip.MustParseAddrPort("192.0.2.1:7947")}
	var tr tries
	now := time.Now()
	up := map[identity.Name]bool{"n2": true}
	tr.begin([]claim{c}, up)
	for range 8 {
		if !tr.may(c, now) {
			t.Fatal("it is due")
		}
		if tr.failed(c, now); tr.may(c, now) {
			t.Fatal("it is due at once")
		}
		now = now.Add(tr.pause(now))
	}
	tr.begin([]claim{c}, nil)
	if tr.failed(c, now); tr.pause(now) != longestPause {
		t.Error("a node that is down is waited for")
	}
	tr.begin([]claim{c}, up)
	if !tr.may(c, now) {
		t.Error("it isn't tried when its node comes back")
	}
}
