// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/stall"
)

// dial makes a lane on which a test can send what no honest node sends.
func dial(t *testing.T, from, to *host) *lane {
	t.Helper()
	l, err := from.handshake(context.Background(), to.port)
	if err == nil {
		err = l.bind(true)
	}
	testhost.Must(t, err)
	t.Cleanup(func() { l.abort(policy.ReasonClosed) })
	_ = l.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	return l
}

// TestForged: what a malicious node with a valid certificate can try on a lane.
func TestForged(t *testing.T) {
	open := appendFrame(nil, kindOpen, 1, Opening{Source: "web", Destination: "db", Port: 5432, prove: true}.encode())
	data := appendFrame(nil, kindData, 1, []byte("x"))
	cases := []struct {
		name  string
		send  func(l, other *lane, a *host) []byte
		reset policy.Reason // "": the lane ends
	}{
		{"no proof", func(_, _ *lane, _ *host) []byte { return open }, policy.ReasonProof},
		{"proof of another lane", func(_, other *lane, a *host) []byte {
			return append(must(other.proof(identity.RoleClient, a.services["web"])), open...)
		}, policy.ReasonProof},
		{"proof of another service", func(l, _ *lane, a *host) []byte {
			return append(must(l.proof(identity.RoleClient, a.mesh.svid(identity.ServiceID(td, "web2")))), open...)
		}, policy.ReasonProof},
		{"another node's certificate", func(l, _ *lane, a *host) []byte {
			return must(l.proof(identity.RoleNode, a.mesh.svid(identity.NodeID(td, "b"))))
		}, ""},
		{"proof in the acceptor's role", func(l, _ *lane, a *host) []byte {
			return must(l.proof(identity.RoleServer, a.services["web"]))
		}, ""},
		{"bytes without a stream", func(_, _ *lane, _ *host) []byte { return data }, ""},
		{"stream opened twice", func(l, _ *lane, a *host) []byte {
			return bytes.Join([][]byte{must(l.proof(identity.RoleClient, a.services["web"])), open, open}, nil)
		}, ""},
		{"unknown kind", func(_, _ *lane, _ *host) []byte { return appendFrame(nil, 9, 1, []byte("x")) }, ""},
		{"name in upper case", func(_, _ *lane, _ *host) []byte {
			return appendFrame(nil, kindOpen, 1, Opening{Source: "WEB", Destination: "db"}.encode())
		}, ""},
		{"too many proofs", func(l, _ *lane, a *host) []byte {
			return bytes.Repeat(must(l.proof(identity.RoleClient, a.services["web"])), maxProofs+1)
		}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a, b := pair(t)
			l := dial(t, a, b)
			if err := l.send(tc.send(l, dial(t, a, b), a)); err != nil {
				t.Fatal(err)
			}
			var h header
			var err error
			for h.kind = kindProve; h.kind == kindProve && err == nil; {
				var block *Block
				h, block, err = l.readFrame()
				if tc.reset != "" && err == nil && policy.Reason(block.Payload()[:h.length]) != tc.reset {
					t.Errorf("answer %v %q", h, block.Payload()[:h.length])
				}
			}
			if (tc.reset == "") != (err != nil) || errors.Is(err, ErrWoken) { // ErrWoken: nothing came in 5 s
				t.Errorf("lane: %v, frame %+v", err, h)
			}
		})
	}
}

// TestImpostor: a node with a valid certificate that answers for a service without
// proving it gets none of the client's bytes, and its own reach no client.
func TestImpostor(t *testing.T) {
	a, b := pair(t)
	ln := b.listen()
	got := make(chan []byte, 1)
	go func() {
		defer close(got)
		conn, err := ln.Accept()
		_ = ln.Close()
		if err != nil {
			return
		}
		l := &lane{cfg: &b.cfg, blocks: b.cfg.Blocks, tcp: stall.Watch(conn.(*net.TCPConn))}
		l.conn = tls.Server(l.tcp, identity.ServerTLS(b, nil))
		var bytes []byte
		for {
			h, block, err := l.readFrame()
			if err != nil {
				break
			}
			switch h.kind {
			case kindOpen:
				_ = l.send(appendFrame(nil, kindData, h.stream, []byte("false")))
			case kindData:
				bytes = append(bytes, block.Payload()[:h.length]...)
			}
		}
		got <- bytes
		l.abort(policy.ReasonClosed)
	}()
	to := Peer{Node: "b", Addr: netip.MustParseAddrPort(ln.Addr().String())}
	secret := "secret"
	_, err := a.Open(t.Context(), to, Opening{Source: "web", Destination: "db"}, first(&secret))
	if policy.ReasonOf(err, "") != policy.ReasonProtocol {
		t.Errorf("ended with %v", err)
	}
	if bytes := <-got; len(bytes) > 0 || secret == "" {
		t.Errorf("the impostor got %q", bytes)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
