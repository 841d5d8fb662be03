// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enter moves the calling test into a network namespace of its own, with lo up. The thread is never given back, so it
// dies with the test and the namespace with it.
func enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := freshNamespace(); err != nil {
		t.Fatal(err)
	}
}

func freshNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// elsewhere is a second namespace: functions run there, one at a time.
type elsewhere struct {
	run  chan func()
	file *os.File
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	e := &elsewhere{run: make(chan func())}
	ready, gone := make(chan error), make(chan struct{})
	go func() {
		defer close(gone)
		runtime.LockOSThread() // never unlocked: the thread dies
		err := freshNamespace()
		if err == nil {
			e.file, err = os.Open("/proc/thread-self/ns/net")
		}
		ready <- err
		for f := range e.run {
			f()
		}
	}()
	err := <-ready
	t.Cleanup(func() { close(e.run); <-gone; e.file.Close() })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// do runs f there and waits for it.
func (e *elsewhere) do(f func() error) error {
	result := make(chan error)
	e.run <- func() { result <- f() }
	return <-result
}

// place is a namespace in which a client runs.
type place interface{ do(func() error) error }

// here is the namespace of the calling test.
type here struct{}

func (here) do(f func() error) error { return f() }

// dial connects to addr and closes again.
func dial(from place, addr string, timeout time.Duration) error {
	return from.do(func() error {
		conn, err := net.DialTimeout("tcp", addr, timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// join links the calling thread's namespace (10.9.0.1, fd00:9::1) and e (10.9.0.2, fd00:9::2) by a veth; e's default
// routes lead here.
func (e *elsewhere) join(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "here"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "there", PeerNamespace: netlink.NsFd(e.file.Fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	if err := setUp("here", "10.9.0.1/24", "fd00:9::1/64", "fe80::1/64"); err != nil {
		t.Fatal(err)
	}
	err := e.do(func() error {
		if err := setUp("there", "10.9.0.2/24", "fd00:9::2/64", "fe80::2/64"); err != nil {
			return err
		}
		for _, gw := range []string{"10.9.0.1", "fd00:9::1"} {
			if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func setUp(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	// The kernel adds no link-local address: it could do so between two snapshots. The caller gives one: without it the
	// kernel looks for no neighbour for a packet whose source isn't an address of the link, as those of TPROXY aren't.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0); err != nil {
		return err
	}
	for _, a := range addrs {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		parsed.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// shell runs one command in the calling thread's namespace.
func shell(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func shellIn(t *testing.T, e *elsewhere, command string) {
	t.Helper()
	shell(t, "nsenter --net=/proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(int(e.file.Fd()))+" "+command)
}

// snapshot is all state that this package could change, as the tools print it.
func snapshot(t *testing.T) string {
	t.Helper()
	return shell(t, "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; "+
		"sysctl -a 2>/dev/null | grep -E 'route_localnet|rp_filter|src_valid_mark|forwarding' || true") + tablesHeld(t)
}

// tablesHeld is what iptables-save and ip6tables-save print, without comments (dates), counters, and tables in which
// only the built-in chains are. Such a table stays when our chain in it is removed: iptables can't remove a table with
// either backend, and another program may have begun to use it.
func tablesHeld(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		var held []string
		for table := range strings.SplitAfterSeq(shell(t, program), "COMMIT\n") {
			var kept []string
			used := false
			for line := range strings.Lines(table) {
				if strings.HasPrefix(line, "#") {
					continue
				}
				line, _, _ = strings.Cut(strings.TrimSpace(line), " [")
				used = used || strings.HasPrefix(line, "-A") || strings.HasSuffix(line, " -") // a rule, a chain of one's own
				kept = append(kept, line+"\n")
			}
			if used {
				held = append(held, program+" "+strings.Join(kept, ""))
			}
		}
		slices.Sort(held) // the kernel's order is that of their making
		out.WriteString(strings.Join(held, ""))
	}
	return out.String()
}

func expect(t *testing.T, changed <-chan struct{}, when string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatalf("nothing was said %s", when)
	}
}

// within polls until ok, or fails.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
