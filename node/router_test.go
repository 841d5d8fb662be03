// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"tacit/node/definition"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/tproxy"
)

// listening is a listener on loopback, and its port.
func listening(t *testing.T) (*net.TCPListener, uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener), uint16(ln.Addr().(*net.TCPAddr).Port)
}

// runs defines an instance on this node, made by user uid; nil is anybody.
func runs(t *testing.T, n *Node, port uint16, uid *uint32) {
	t.Helper()
	d := definition.Definition{Name: "db", ID: "db", Port: port, Source: inventory.SourceCommand, ClientAddress: definition.ClientLoopback, Workload: definition.Workload{UID: uid}}
	if err := n.inventory.Register(d); err != nil {
		t.Fatal(err)
	}
	n.inventory.Look()
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
	n, tag := newNode(t), &tagged{}
	n.enforcer = tag
	_, port := listening(t)
	runs(t, n, port, nil)
	in := tproxy.Inbound{Source: "web", Destination: "db", Port: port, Instance: "db"}
	conn, err := router{n}.Dial(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if tag.source != "web" || tag.destination != "db" || conn.RemoteAddr().(*net.TCPAddr).Port != int(port) {
		t.Errorf("connected to %s with a socket tagged %s>%s", conn.RemoteAddr(), tag.source, tag.destination)
	}
	if err := onFD(conn, func(fd int) error {
		if fd != tag.fd {
			return errors.New("another socket was tagged than " + strconv.Itoa(fd))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestRouterRefuses, each with its reason.
func TestRouterRefuses(t *testing.T) {
	n, tag := newNode(t), &tagged{}
	n.enforcer = tag
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
		{"another program's listener", func() { runs(t, n, port, &stranger) }, policy.ReasonListener, "port " + at + " of db: socket of uid "},
		{"no tag", func() { runs(t, n, port, nil); tag.err = errors.New("the map is full") }, policy.ReasonDial, "db on port " + at + ": dial tcp 127.0.0.1:" + at + ": the map is full"},
		{"nobody listens", func() { _ = ln.Close() }, policy.ReasonDial, "nobody listens on port " + at + " of db"},
	} {
		c.make()
		conn, err := router{n}.Dial(t.Context(), in)
		if got, detail := reason(t, err); conn != nil || got != c.reason || !strings.HasPrefix(detail, c.detail) {
			t.Errorf("%s: %s: %s; want %s: %s", c.name, got, detail, c.reason, c.detail)
		}
	}
}

// TestRouterIdentifies only connections to virtual addresses of services: the
// daemon's port is no open proxy.
func TestRouterIdentifies(t *testing.T) {
	n := newNode(t)
	n.enforcer = &tagged{}
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
		_, err = router{n}.Identify(conn.(*net.TCPConn))
		if got, detail := reason(t, err); got != want.reason || detail != ln.Addr().String()+want.detail {
			t.Errorf("%s: %s: %s; want %s", addr, got, detail, want.reason)
		}
		_, _, _ = client.Close(), conn.Close(), ln.Close()
	}
}

// TestTryGossipPort before anything is changed on the host; it leaves nothing open.
func TestTryGossipPort(t *testing.T) {
	n := newNode(t)
	ln, port := listening(t)
	n.cfg.GossipPort = port
	inUse := "--gossip-port " + strconv.Itoa(int(port)) + ": the port is in use by another program; stop it (ss -lntp) or give another port"
	if err := tryGossipPort(t.Context(), n.cfg); err == nil || err.Error() != inUse {
		t.Errorf("TCP in use: %v", err)
	}
	_ = ln.Close()
	udp, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := tryGossipPort(t.Context(), n.cfg); err == nil || err.Error() != inUse {
		t.Errorf("UDP in use: %v", err)
	}
	_ = udp.Close()
	for range 2 {
		if err := tryGossipPort(t.Context(), n.cfg); err != nil {
			t.Errorf("free: %v", err)
		}
	}
}
