// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
)

// malicious is one end of a lane that speaks with crypto/tls and writes its frames by
// hand, each in a record of its own. It can send what no honest node sends.
type malicious struct {
	t       testing.TB
	tcp     *net.TCPConn
	conn    *tls.Conn
	channel identity.Channel
	plain   []byte
	record  []byte
}

// attack makes a lane from a node with a valid certificate.
func attack(t testing.TB, from, to *host) *malicious {
	t.Helper()
	tcp, err := net.Dial("tcp", to.port.Addr.String())
	testhost.Must(t, err)
	return newMalicious(t, tcp, tls.Client(tcp, identity.ClientTLS(from, identity.ALPNLane, to.node.ID, nil)), from.node.ID, to.node.ID)
}

func newMalicious(t testing.TB, tcp net.Conn, conn *tls.Conn, dialer, acceptor identity.ID) *malicious {
	t.Helper()
	t.Cleanup(func() { _ = tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(60 * time.Second))
	testhost.Must(t, conn.HandshakeContext(context.Background()))
	channel, err := identity.NewChannel(conn.ConnectionState(), dialer, acceptor)
	testhost.Must(t, err)
	return &malicious{t: t, tcp: tcp.(*net.TCPConn), conn: conn, channel: channel, record: make([]byte, 1<<15)}
}

// bytesOf is a frame whose header may be anything.
func bytesOf(kind frame.Kind, stream uint32, payload []byte) []byte {
	b := []byte{byte(kind), 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// opening is OPEN of a stream from web.
func opening(stream uint32, destination identity.Name) []byte {
	return bytesOf(frame.Open, stream, message.Opening{Source: "web", Destination: destination, Port: 5432, Unproven: true}.Encode())
}

// proof is PROVE.
func (m *malicious) proof(role identity.Role, s *identity.SVID) []byte {
	m.t.Helper()
	p, err := identity.Prove(s, role, m.channel)
	testhost.Must(m.t, err)
	payload, err := message.EncodeProof(role, p)
	testhost.Must(m.t, err)
	return bytesOf(frame.Prove, 0, payload)
}

// send sends each frame in a record of its own.
func (m *malicious) send(frames ...[]byte) error {
	for _, f := range frames {
		if _, err := m.conn.Write(f); err != nil {
			return err
		}
	}
	return nil
}

// next is the next frame.
func (m *malicious) next() (frame.Header, []byte, error) {
	for len(m.plain) == 0 {
		n, err := m.conn.Read(m.record)
		if err != nil {
			return frame.Header{}, nil, err
		}
		m.plain = m.record[:n]
	}
	h, payload, rest, err := frame.Next(m.plain)
	m.plain = rest
	return h, payload, err
}

// until is the next frame of a kind.
func (m *malicious) until(k frame.Kind) (frame.Header, []byte, error) {
	for {
		h, payload, err := m.next()
		if err != nil || h.Kind == k {
			return h, payload, err
		}
	}
}

// ended waits for the end of the lane.
func (m *malicious) ended() error {
	_, _, err := m.until(0)
	return err
}

// swallow reads all that comes, in a goroutine.
func (m *malicious) swallow() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, m.conn)
	}()
	m.t.Cleanup(func() {
		_ = m.tcp.Close()
		<-done
	})
}

// TestForged: what a malicious node with a valid certificate can try on a lane.
func TestForged(t *testing.T) {
	web := func(m *malicious, a *host) []byte { return m.proof(identity.RoleClient, a.services["web"]) }
	open, data := opening(1, "db"), bytesOf(frame.Data, 1, []byte("x"))
	cases := map[string]struct {
		send  func(m *malicious, a, b *host) [][]byte
		reset policy.Reason // of stream 1
		cut   policy.Reason // of the lane
	}{
		"no proof": {func(*malicious, *host, *host) [][]byte { return [][]byte{open} }, policy.ReasonProof, ""},
		"proof of another lane": {func(m *malicious, a, b *host) [][]byte {
			return [][]byte{web(attack(m.t, a, b), a), open}
		}, policy.ReasonProof, ""},
		"proof of another service": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{m.proof(identity.RoleClient, a.mesh.svid(identity.ServiceID(td, "web2"))), open}
		}, policy.ReasonProof, ""},
		"service of another mesh": {func(m *malicious, _, _ *host) [][]byte {
			return [][]byte{m.proof(identity.RoleClient, newMesh(m.t).svid(identity.ServiceID(td, "web"))), open}
		}, policy.ReasonProof, ""},
		"another node's certificate": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{m.proof(identity.RoleNode, a.mesh.svid(identity.NodeID(td, "b")))}
		}, "", policy.ReasonProof},
		"its certificate too often": {func(m *malicious, a, _ *host) [][]byte {
			again := m.proof(identity.RoleNode, a.node)
			return [][]byte{again, again}
		}, "", policy.ReasonProtocol},
		"proof in the acceptor's role": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{m.proof(identity.RoleServer, a.services["web"])}
		}, "", policy.ReasonProtocol},
		"proof that is none": {func(*malicious, *host, *host) [][]byte {
			return [][]byte{bytesOf(frame.Prove, 0, []byte{1, 1, 0, 1, 0})}
		}, "", policy.ReasonProtocol},
		"too many proofs": {func(m *malicious, a, _ *host) (all [][]byte) {
			for range 400 { // verifying takes time, in which some more are allowed
				all = append(all, web(m, a))
			}
			return all
		}, "", policy.ReasonProtocol},
		"bytes without a stream": {func(*malicious, *host, *host) [][]byte { return [][]byte{data} }, "", policy.ReasonProtocol},
		"credit of a future stream": {func(*malicious, *host, *host) [][]byte {
			return [][]byte{bytesOf(frame.Credit, 7, frame.Granting(1))}
		}, "", policy.ReasonProtocol},
		"end of a future stream":   {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Fin, 7, nil)} }, "", policy.ReasonProtocol},
		"reset of a future stream": {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Reset, 7, nil)} }, "", policy.ReasonProtocol},
		"answer to nothing":        {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Answer, 7, nil)} }, "", policy.ReasonProtocol},
		"answer to itself": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{web(m, a), append(opening(1, "db"), bytesOf(frame.Answer, 1, nil)...)}
		}, "", policy.ReasonProtocol},
		"stream opened twice": {func(m *malicious, a, _ *host) [][]byte { return [][]byte{web(m, a), open, open} }, "", policy.ReasonProtocol},
		"streams opened backwards": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{web(m, a), opening(9, "db"), opening(8, "db")}
		}, "", policy.ReasonProtocol},
		"bytes after the end": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{web(m, a), append(append(opening(1, "db"), bytesOf(frame.Fin, 1, nil)...), data...)}
		}, "", policy.ReasonProtocol},
		"two ends": {func(m *malicious, a, _ *host) [][]byte {
			fin := bytesOf(frame.Fin, 1, nil)
			return [][]byte{web(m, a), append(append(opening(1, "db"), fin...), fin...)}
		}, "", policy.ReasonProtocol},
		"unknown kind":     {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(99, 1, []byte("x"))} }, "", policy.ReasonProtocol},
		"kind 0":           {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(0, 0, nil)} }, "", policy.ReasonProtocol},
		"half a header":    {func(*malicious, *host, *host) [][]byte { return [][]byte{open[:5]} }, "", policy.ReasonProtocol},
		"half a frame":     {func(*malicious, *host, *host) [][]byte { return [][]byte{open[:12]} }, "", policy.ReasonProtocol},
		"oversized reason": {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Reset, 1, make([]byte, 33))} }, "", policy.ReasonProtocol},
		"ping with a load": {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Ping, 0, []byte("x"))} }, "", policy.ReasonProtocol},
		"ping of a stream": {func(*malicious, *host, *host) [][]byte { return [][]byte{bytesOf(frame.Ping, 1, nil)} }, "", policy.ReasonProtocol},
		"name in upper case": {func(*malicious, *host, *host) [][]byte {
			return [][]byte{bytesOf(frame.Open, 1, message.Opening{Source: "WEB", Destination: "db"}.Encode())}
		}, "", policy.ReasonProtocol},
		"credit without end": {func(m *malicious, a, _ *host) [][]byte {
			grant := bytesOf(frame.Credit, 1, frame.Granting(1<<30))
			return [][]byte{web(m, a), append(opening(1, "db"), grant...)}
		}, "", policy.ReasonProtocol},
		"credit of nothing": {func(m *malicious, a, _ *host) [][]byte {
			return [][]byte{web(m, a), append(opening(1, "db"), bytesOf(frame.Credit, 1, frame.Granting(0))...)}
		}, "", policy.ReasonProtocol},
		"more than was granted": {func(m *malicious, a, _ *host) [][]byte {
			all := [][]byte{web(m, a), opening(1, "silent")}
			for range 5 {
				all = append(all, bytesOf(frame.Data, 1, make([]byte, frame.MaxPayload)))
			}
			return all
		}, "", policy.ReasonProtocol},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			testhost.VerifyNone(t)
			mesh := newMesh(t)
			a := mesh.host(Config{}, "a", "web")
			release := make(chan struct{})
			b := mesh.host(Config{Accept: func(in *Arrival) {
				if in.Destination == "silent" {
					<-release
				}
				accepting(func() User { return &echo{} })(in)
			}}, "b", "db", "silent")
			t.Cleanup(func() { close(release) })
			m := attack(t, a, b)
			_ = m.send(tc.send(m, a, b)...) // the lane may end before all is sent
			if tc.reset != "" {
				h, payload, err := m.until(frame.Reset)
				if err != nil || h.Stream != 1 || policy.Reason(payload) != tc.reset {
					t.Errorf("%+v %q, %v; want RESET %s", h, payload, err, tc.reset)
				}
				return
			}
			if err := m.ended(); err == nil || isTimeout(err) {
				t.Errorf("the lane ended with %v", err)
			}
			testhost.Eventually(t, 5*time.Second, "it is counted", func() error { return counted(b, tc.cut, 1) })
			a.ask(b.port, "db") // others go on
		})
	}
}

// counted says whether b has cut n lanes for a reason.
func counted(b *host, why policy.Reason, n uint64) error {
	if got := b.Cut()[why]; got != n {
		return fmt.Errorf("cut %v, want %d %s", b.Cut(), n, why)
	}
	return nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestImpostor: a node with a valid certificate that answers for a service without
// proving it gets none of the client's bytes, and its own reach no client.
func TestImpostor(t *testing.T) {
	for name, answer := range map[string]struct {
		frames func(stream uint32) []byte
		want   policy.Reason
	}{
		"bytes":  {func(s uint32) []byte { return bytesOf(frame.Data, s, []byte("false")) }, policy.ReasonProtocol},
		"answer": {func(s uint32) []byte { return bytesOf(frame.Answer, s, nil) }, policy.ReasonProof},
		"end":    {func(s uint32) []byte { return bytesOf(frame.Fin, s, nil) }, policy.ReasonProtocol},
		"credit": {func(s uint32) []byte {
			return append(bytesOf(frame.Credit, s, frame.Granting(1<<20)), bytesOf(frame.Answer, s, nil)...)
		}, policy.ReasonProof},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			ln := listen(t)
			got := make(chan []byte, 1)
			go func() {
				defer close(got)
				tcp, err := ln.Accept()
				_ = ln.Close()
				if err != nil {
					return
				}
				m := newMalicious(t, tcp, tls.Server(tcp, identity.ServerTLS(b, nil)), a.node.ID, b.node.ID)
				var bytes []byte
				for {
					h, payload, err := m.next()
					if err != nil {
						break
					}
					switch h.Kind {
					case frame.Open:
						_ = m.send(answer.frames(h.Stream))
					case frame.Data:
						bytes = append(bytes, payload...)
					}
				}
				got <- bytes
			}()
			c, err := a.call(Peer{Node: "b", Addr: netip.MustParseAddrPort(ln.Addr().String())}, "db", "secret", false)
			if policy.ReasonOf(err, "") != answer.want {
				t.Errorf("ended with %v, want %s", err, answer.want)
			}
			a.Abort()
			if bytes := <-got; len(bytes) > 0 || len(c.calls) > 0 {
				t.Errorf("the impostor got %q, the client %q", bytes, c.calls)
			}
		})
	}
}
