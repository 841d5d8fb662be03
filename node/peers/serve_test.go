// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/health"
)

// TestDispatch: each ALPN reaches what it is for.
func TestDispatch(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.start(t, "n1", "127.0.0.1"), m.certify(t, "n2")
	here := netip.MustParseAddr("127.0.0.1")
	token := &identity.Token{TrustDomain: domain, Authority: "n1", Root: m.Bundle().Fingerprint()}
	for _, c := range []struct {
		alpn string
		call func() (net.Conn, error)
		want string
	}{
		{identity.ALPNLane, func() (net.Conn, error) { return n1.call(t, n2, identity.ALPNLane, here) }, "lane"},
		{identity.ALPNHere, func() (net.Conn, error) { return n1.call(t, n2, identity.ALPNHere, here) }, "closed"},
		{identity.ALPNIssue, func() (net.Conn, error) { return n1.call(t, n2, identity.ALPNIssue, here) }, "issue to n2"},
		{identity.ALPNEnrol, func() (net.Conn, error) { return tls.Dial("tcp", n1.Peers.port.String(), identity.EnrolTLS(token)) }, "admit"},
	} {
		conn, err := c.call()
		must(t, err)
		must(t, json.NewEncoder(conn).Encode(enrol.Ask{}))
		if got := n1.reached(conn); got != c.want {
			t.Errorf("%s reached %q, want %q", c.alpn, got, c.want)
		}
		_ = conn.Close()
	}
}

// reached says what the node's end of a connection came to.
func (n node) reached(conn net.Conn) string {
	closed := make(chan string, 1)
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		closed <- "closed"
	}()
	select {
	case lane := <-n.served:
		_ = lane.Close()
		return "lane"
	case what := <-n.asked:
		return what
	case what := <-closed:
		select {
		case what = <-n.asked: // before it closed
		default:
		}
		return what
	}
}

// TestHandshakeRefused: nobody without a certificate of this mesh gets further.
func TestHandshakeRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	stranger := source{other.certify(t, "n2").svid, m.Bundle()} // accepts n1, and has a certificate of another mesh
	conn, err := n1.call(t, stranger, identity.ALPNLane, netip.MustParseAddr("127.0.0.1"))
	if err == nil { // in TLS 1.3 the client learns of the refusal by its first read
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || len(n1.served) != 0 {
		t.Errorf("a stranger came through: %v", err)
	}
}

// TestGate: 256 silent connections keep everybody else out, one that goes lets
// another in, and a lane takes no place.
func TestGate(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.start(t, "n1", "127.0.0.1"), m.certify(t, "n2")
	here := netip.MustParseAddr("127.0.0.1")
	for range 10 { // lanes that stay
		_, err := n1.call(t, n2, identity.ALPNLane, here)
		must(t, err)
		<-n1.served
	}
	var silent []net.Conn
	for range maxHandshakes {
		conn, err := net.Dial("tcp", n1.Peers.port.String())
		must(t, err)
		defer conn.Close()
		silent = append(silent, conn)
	}
	if conn, err := n1.call(t, n2, identity.ALPNLane, here); err == nil {
		t.Errorf("%s got in past %d handshakes", conn.LocalAddr(), maxHandshakes)
	}
	must(t, silent[0].Close())
	eventually(t, "a place", func() bool {
		_, err := n1.call(t, n2, identity.ALPNLane, here)
		return err == nil
	})
	<-n1.served
}

// TestHandshakeTimeout: a silent client gives its place back after 5 s.
func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf, _ := newMesh(t).config(t, "n1", "127.0.0.1", t.TempDir())
		p := &Peers{conf: conf, tls: identity.ServerTLS(conf.Identities, nil), gate: newGate()}
		client, server := net.Pipe()
		defer client.Close()
		leave, ok := p.gate.enter(server.RemoteAddr())
		if !ok {
			t.Fatal("no place in an empty gate")
		}
		begin := time.Now()
		p.answer(t.Context(), tls.Server(server, p.tls), leave)
		if took := time.Since(begin); took != handshakeTimeout || len(p.gate.places) != 0 {
			t.Errorf("ended after %s with %d places taken", took, len(p.gate.places))
		}
	})
}

// TestLanePortOpensAgain when others have closed its socket; status says so.
func TestLanePortOpensAgain(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.start(t, "n1", "127.0.0.1"), m.certify(t, "n2")
	begin := time.Now().Add(-time.Second)
	shut(t, n1.port.ln)
	eventually(t, "the lane port", func() bool {
		_, err := n1.call(t, n2, identity.ALPNLane, netip.MustParseAddr("127.0.0.1"))
		return err == nil
	})
	if r := n1.board.Repairs(begin); len(r) != 1 || r[0].Object != "lane port" || n1.board.Get(health.Listener, "lane port") != nil {
		t.Errorf("repairs %v, problems %v", r, n1.board.Problems())
	}
}

// shut does to a listening socket what ss -K does.
func shut(t *testing.T, ln syscall.Conn) {
	t.Helper()
	raw, err := ln.SyscallConn()
	must(t, err)
	var failed error
	must(t, errors.Join(raw.Control(func(fd uintptr) { failed = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }), failed))
}

// TestRunEnds waits for handshakes, and closes every listener.
func TestRunEnds(t *testing.T) {
	m := newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	conn, err := net.Dial("tcp", n1.Peers.port.String())
	must(t, err)
	defer conn.Close()
	eventually(t, "a handshake", func() bool { return len(n1.gate.places) == 1 })
	n1.end()
	if len(n1.gate.places) != 0 {
		t.Error("a handshake goes on")
	}
	ln, err := net.Listen("tcp", n1.Peers.port.String())
	if err != nil {
		t.Fatal(fmt.Errorf("the lane port is still open: %w", err))
	}
	_ = ln.Close()
}
