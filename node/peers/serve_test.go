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
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/policy"
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

// silent opens n connections to the lane port from an address, which send nothing.
func (n node) silent(t *testing.T, from string, count int) []net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var out []net.Conn
	for range count {
		conn, err := d.Dial("tcp", n.Peers.port.String())
		if errors.Is(err, syscall.ECONNRESET) {
			continue // refused before it knew that it was connected
		}
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		out = append(out, conn)
	}
	return out
}

func (n node) inside() int {
	inside, _ := n.Refused()
	return inside
}

func (n node) refused(why policy.Reason) uint64 {
	_, refused := n.Refused()
	return refused[why]
}

// TestAnyoneStopsANode: silent connections keep nobody out who comes from another
// address, and no member whatever their number; a lane takes no place.
func TestAnyoneStopsANode(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.start(t, "n1", "127.0.0.1"), m.certify(t, "n2")
	m.says("n2", "127.0.0.1")
	here := netip.MustParseAddr("127.0.0.1")
	for range 300 { // lanes that stay
		_, err := n1.call(t, n2, identity.ALPNLane, here)
		must(t, err)
		<-n1.served
	}
	for i := range 20 {
		n1.silent(t, fmt.Sprintf("127.0.1.%d", i), 100)
	}
	eventually(t, "a decision about each", func() bool {
		return n1.inside() == 192 && n1.refused(policy.ReasonShare)+n1.refused(policy.ReasonLimit) == 2000-192
	})
	for range 100 {
		conn, err := n1.call(t, n2, identity.ALPNLane, here)
		must(t, err)
		_ = (<-n1.served).Close()
		_ = conn.Close()
	}
}

// TestPlaceUntilAdmitted: who asks to be admitted keeps a place until the answer,
// and one who asks nothing ends.
func TestPlaceUntilAdmitted(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	token := &identity.Token{TrustDomain: domain, Authority: "n1", Root: m.Bundle().Fingerprint()}
	for range 8 {
		conn, err := tls.Dial("tcp", n1.Peers.port.String(), identity.EnrolTLS(token))
		must(t, err)
		defer conn.Close()
	}
	n1.silent(t, "127.0.0.1", 100)
	eventually(t, "a decision about each", func() bool { return n1.refused(policy.ReasonShare) == 92 })
	if inside := n1.inside(); inside != 16 {
		t.Errorf("%d are inside, want 8 that don't ask and 8 that are silent", inside)
	}
	eventually(t, "all to end", func() bool { return n1.inside() == 0 })
	if got := n1.refused(policy.ReasonSlow); got != 16 {
		t.Errorf("%d were slow", got)
	}
}

// TestNoAuthority: a node that is none refuses to admit and to issue by the first
// message, and says so.
func TestNoAuthority(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.certify(t, "n1"), m.start(t, "n2", "127.0.0.1")
	token := &identity.Token{TrustDomain: domain, Authority: "n1", Root: m.Bundle().Fingerprint()}
	_, err1 := enrol.Enrol(t.Context(), token, enrol.Ask{}, []string{n2.Peers.port.String()})
	_, err2 := enrol.Renew(t.Context(), n2.Peers.port, identity.ClientTLS(n1, identity.ALPNIssue, identity.NodeID(domain, "n2"), nil), enrol.Renewal{})
	for _, err := range []error{err1, err2} {
		if err == nil || !strings.Contains(err.Error(), "this node is not an authority; ask the one that the token names") {
			t.Errorf("the asking node is told: %v", err)
		}
	}
	_, err := tls.Dial("tcp", n2.Peers.port.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err == nil || len(n2.asked) > 0 {
		t.Errorf("%d asked; %v", len(n2.asked), err)
	}
	eventually(t, "all to be counted", func() bool { return n2.refused(policy.ReasonAuthority) == 2 && n2.refused(policy.ReasonHandshake) == 1 })
}

// TestSlowHandshakes: a client that is silent, or sends a byte now and then, ends after 5 s.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	begin := time.Now()
	conns := n1.silent(t, "127.0.0.2", 2)
	for i := 0; n1.inside() > 0 || i == 0; i++ {
		_, _ = conns[0].Write([]byte{22, 3, 1, 2, 0, 1, 0}[i%7 : i%7+1]) // the beginning of a ClientHello
		if time.Since(begin) > 4*handshakeTimeout {
			t.Fatal("a slow client is still there")
		}
		<-time.After(100 * time.Millisecond)
	}
	if took := time.Since(begin); took < handshakeTimeout || n1.refused(policy.ReasonSlow) != 2 {
		t.Errorf("ended after %s, %d slow", took, n1.refused(policy.ReasonSlow))
	}
}

// TestReasons: each refused handshake is counted once, by its reason.
func TestReasons(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	n1 := m.start(t, "n1", "127.0.0.1")
	here := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name string
		call func() (*tls.Conn, error)
		why  policy.Reason
	}{
		{"another mesh", func() (*tls.Conn, error) {
			return n1.call(t, source{other.certify(t, "n2").svid, m.Bundle()}, identity.ALPNLane, here)
		}, policy.ReasonMember},
		{"a service's certificate", func() (*tls.Conn, error) {
			return n1.call(t, m.certifyService(t, "web"), identity.ALPNLane, here)
		}, policy.ReasonMember},
		{"no certificate", func() (*tls.Conn, error) {
			return tls.Dial("tcp", n1.Peers.port.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{identity.ALPNHere}})
		}, policy.ReasonMember},
		{"no TLS", func() (*tls.Conn, error) {
			_, err := n1.silent(t, "127.0.0.1", 1)[0].Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			return nil, err
		}, policy.ReasonHandshake},
	} {
		before := n1.refused(c.why)
		if conn, err := c.call(); err == nil && conn != nil {
			_, _ = conn.Read(make([]byte, 1))
		}
		eventually(t, c.name, func() bool { return n1.refused(c.why) == before+1 })
	}
	if _, refused := n1.Refused(); len(refused) != 2 || len(n1.served) != 0 {
		t.Errorf("refused %v", refused)
	}
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
	eventually(t, "a handshake", func() bool { return n1.inside() == 1 })
	n1.end()
	if n1.inside() != 0 {
		t.Error("a handshake goes on")
	}
	ln, err := net.Listen("tcp", n1.Peers.port.String())
	if err != nil {
		t.Fatal(fmt.Errorf("the lane port is still open: %w", err))
	}
	_ = ln.Close()
}
