// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// ownedTable is who listens at an address, and whether an owned tag reaches it. The
// first socket of each is looked at.
var ownedTable = []struct {
	name    string
	sockets [][3]string // cgroup, verb of the helper, address
	to      string
	want    error // nil: it is the workload's alone
}{
	{"the workload's", [][3]string{{"db", "serve", "127.0.0.1:15432"}}, "127.0.0.1:15432", nil},
	{"the workload's, below", [][3]string{{"db/worker", "serve", "127.0.0.1:15432"}}, "127.0.0.1:15432", nil},
	{"the workload's, for every address", [][3]string{{"db", "serve-4", "0.0.0.0:15432"}}, "127.0.0.1:15432", nil},
	{"the workload's, for both families", [][3]string{{"db", "serve", "[::]:15432"}}, "127.0.0.1:15432", nil},
	{"the workload's, IPv6", [][3]string{{"db", "serve-6", "[::1]:15432"}}, "[::1]:15432", nil},
	{"the workload's, MPTCP", [][3]string{{"db", "serve-mptcp", "127.0.0.1:15432"}}, "127.0.0.1:15432", nil},
	{"the workload's, at an address that isn't known to be the host's", [][3]string{{"db", "serve", "10.7.0.6:15432"}}, "10.7.0.6:15432", nil},
	{"nobody's", nil, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"another service's", [][3]string{{"other", "serve", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's", [][3]string{{"nobody", "serve", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's, IPv6", [][3]string{{"nobody", "serve-6", "[::1]:15432"}}, "[::1]:15432", unix.ECONNREFUSED},
	{"no workload's, MPTCP", [][3]string{{"nobody", "serve-mptcp", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's, in IPv4, beside the workload's", [][3]string{{"nobody", "serve-4", "0.0.0.0:15432"}, {"db", "serve-6", "[::1]:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's, at an address that isn't known to be the host's", [][3]string{{"nobody", "serve", "10.7.0.6:15432"}}, "10.7.0.6:15432", unix.ECONNREFUSED},
	{"no workload's, bound to lo", [][3]string{{"nobody", "serve-lo", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"the workload's, shared", [][3]string{{"db", "serve-shared", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's, shared with the workload", [][3]string{{"nobody", "serve-shared", "127.0.0.1:15432"}, {"db", "serve-shared", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
	{"no workload's, bound to lo, beside the workload's", [][3]string{{"nobody", "serve-lo", "127.0.0.1:15432"}, {"db", "serve-shared", "127.0.0.1:15432"}}, "127.0.0.1:15432", unix.ECONNREFUSED},
}

// TestOwned: with an owned tag, the daemon reaches only a listener of which the kernel
// knows that no other program can share its port, whatever the guard of the port says,
// or where it doesn't know of one. It refuses at once, and leaves the reason to the
// daemon. Without, nothing of this matters.
func TestOwned(t *testing.T) {
	h := &sameNode{host: newHost(t), arrived: make(chan string, 100)}
	run(t, "ip addr add 10.7.0.6/32 dev lo")
	h.ok(h.Workloads().Put(h.dir("other"), other))
	h.allow(Pair{web, db}, Pair{db, db})
	for _, c := range ownedTable {
		func() {
			_ = h.Guards().Delete(port15432)
			for _, s := range c.sockets {
				defer h.program(s[0], s[1], s[2])()
			}
			before, err := h.Counters()
			h.ok(err)
			for _, guard := range []*Guard{nil, {Service: db, Serving: true}, {Service: db, Anyone: true}} {
				if guard != nil {
					h.ok(h.Guards().Put(port15432, *guard))
				}
				for _, source := range []uint32{web, db} {
					if err := h.dial(c.to, Tag{Pair: Pair{source, db}, Owned: true}); !errors.Is(err, c.want) {
						t.Errorf("%s, guard %+v, from %d: %v, want %v", c.name, guard, source, err, c.want)
					}
				}
			}
			after, err := h.Counters()
			h.ok(err)
			if after != before {
				t.Errorf("%s: refusals are counted, of which the daemon tells: %v, before %v", c.name, after, before)
			}
			if n := len(h.arrived); c.want != nil && n != 0 {
				t.Errorf("%s: %d connections reached a program", c.name, n)
			}
			if err := h.dial(c.to, Tag{Pair: Pair{web, db}}); (err == nil) != (c.sockets != nil) {
				t.Errorf("%s: the daemon has looked: %v", c.name, err)
			}
		}()
		h.arrived = make(chan string, 100)
	}
}

// dial connects once as the daemon does for another node's caller.
func (h *host) dial(to string, as Tag) error {
	h.t.Helper()
	family := unix.AF_INET
	if netip.MustParseAddrPort(to).Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	h.ok(err)
	defer unix.Close(fd)
	h.ok(h.Tag(fd, as))
	return unix.Connect(fd, sockaddr(to))
}

// TestOwnedInner is the same in another network namespace.
func TestOwnedInner(t *testing.T) {
	const named, to = "127.64.0.1:0", "127.0.0.1:15432"
	for verb, want := range map[string]error{"": unix.ECONNREFUSED, "serve": nil, "serve-shared": unix.ECONNREFUSED} {
		t.Run(verb, func(t *testing.T) {
			i := newInner(t, Guard{Anyone: true})
			i.allow(Pair{web, db})
			if verb != "" {
				i.program(verb, to)
			}
			if _, err := i.dialAs(named, to, Tag{Pair: Pair{web, db}, Owned: true}, true); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
}
