// SPDX-License-Identifier: Apache-2.0

// Package testhost makes hosts for tests out of network namespaces, cgroups
// and directories, joined by a bridge, and runs daemons and stock programs on
// them. It is the one fixture for such tests, and only tests import it:
//
//	mesh := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
//	host1, host2 := mesh.Nodes[0], mesh.Nodes[1]
//	host2.StartAs(t, "db", host2.Bin("probe"), "listen", ":5432")
//	host2.Tacit(t, "service", "register", "db", "--port", "5432")
//	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
//	out, exit := host1.RunAs(t, "web", "psql", "-h", "db")
//
// NewNet and Host are the same without daemons. It must not know how tacit
// works: it starts programs, calls the CLI, carries packets, and compares what
// is left behind.
//
// All names contain the test's process id and a number, so that tests of several
// packages can run on one kernel, and the next test finds and removes what a
// killed one left behind.
package testhost

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Net is a switch: a namespace with a bridge to which hosts are joined.
type Net struct {
	t      testing.TB
	key    key
	dir    string // of all hosts; short, since the path of a unix socket has at most 107 bytes
	cgroup string
	v6     bool

	mu    sync.Mutex
	hosts []*Host           // in the order of their addresses, without containers
	bins  map[string]string // built programs by name
}

// NewNet makes a switch without hosts. It needs root, iproute2 and a cgroup v2
// tree. Everything on it ends with the test.
func NewNet(t testing.TB) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("test hosts are namespaces and cgroups: run the tests as root")
	}
	root, err := cgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	removeDead(root)
	n := &Net{t: t, bins: map[string]string{}}
	if n.key, err = newKey(root); err != nil {
		t.Fatal(err)
	}
	n.cgroup, n.dir = n.key.cgroup(root), n.key.dir()
	t.Cleanup(func() {
		if err := n.key.remove(root); err != nil {
			t.Errorf("removing test hosts: %v", err)
		}
	})
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat("/proc/sys/net/ipv6")
	n.v6 = err == nil
	if err := n.wire(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Dir holds the hosts' directories.
func (n *Net) Dir() string { return n.dir }

// Namespace is the path of the switch's own namespace: br0 there sees every
// frame between hosts.
func (n *Net) Namespace() string { return nsPath(n.key.namespace("switch")) }

// addr4 is address i of the switch's /24; 254 is the switch itself.
func (n *Net) addr4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 87, byte(n.key.n), byte(i)})
}

func (n *Net) addr6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x87, 7: byte(n.key.n), 15: byte(i)})
}

// wire makes the switch's namespace and bridge.
func (n *Net) wire() error {
	ns := n.key.namespace("switch")
	lines := []string{
		"link set lo up",
		"link add br0 type bridge",
		"link set br0 up",
		fmt.Sprintf("addr add %s/24 dev br0", n.addr4(254)),
	}
	if n.v6 {
		lines = append(lines, fmt.Sprintf("addr add %s/64 dev br0 nodad", n.addr6(254)))
	}
	return makeNamespace(ns, lines)
}

// makeNamespace adds a named namespace and runs lines of ip(8) in it. Duplicate
// address detection is off: it would take a second.
func makeNamespace(ns string, lines []string) error {
	if err := command("", "ip", "netns", "add", ns); err != nil {
		return err
	}
	err := inside(nsPath(ns), func() error {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
		if errors.Is(err, fs.ErrNotExist) { // no IPv6
			return nil
		}
		return err
	})
	return errors.Join(err, batch(ns, lines))
}

// batch runs lines of ip(8) in a namespace.
func batch(ns string, lines []string) error {
	return command(strings.Join(lines, "\n")+"\n", "ip", "-n", ns, "-batch", "-")
}

// command runs a program to its end; the error contains its output.
func command(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func nsPath(name string) string { return filepath.Join("/run/netns", name) }
