// SPDX-License-Identifier: Apache-2.0

// Package enrol is how a node gets its certificates: the enrolment of a new
// node by token, and the renewal of node and service certificates, both one
// request and one answer on a TLS connection to an authority's lane port. It
// must not decide who may have what: an Office does.
package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"tacit/identity"
	"tacit/policy/ledger"
)

const (
	deadline  = 10 * time.Second
	maxAsk    = 256 << 10 // bytes of a request: a token with its grants and a CSR
	maxAnswer = 64 << 20  // bytes of an answer: all records of a large mesh
)

// Ask is what a new node sends.
type Ask struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"` // PKCS#10, DER
}

// Admission is what an authority answers: all that a node needs to be a member.
type Admission struct {
	Chain     []byte          `json:"chain"` // PEM, leaf first
	Root      []byte          `json:"root"`  // DER
	Records   []ledger.Record `json:"records"`
	GossipKey []byte          `json:"gossip_key"` // 32 bytes
}

// Renewal asks for a certificate: the node's own (Service empty) or a service's.
type Renewal struct {
	Service identity.Name `json:"service,omitempty"`
	CSR     []byte        `json:"csr"`
}

// Issued answers a Renewal.
type Issued struct {
	Chain []byte `json:"chain"` // PEM, leaf first
}

// Office is the authority's side. Its errors' texts reach the asking node.
type Office interface {
	Admit(ctx context.Context, ask Ask) (*Admission, error)
	Issue(ctx context.Context, node identity.Name, spki []byte, r Renewal) (*Issued, error)
}

// ErrRefused: the authority answered, and said no.
var ErrRefused = errors.New("the authority refused")

type answer[T any] struct {
	Error string `json:"error,omitempty"`
	Body  *T     `json:"body,omitempty"`
}

// ServeAdmission answers one enrolment on a connection with ALPN tacit-enrol/1.
func ServeAdmission(ctx context.Context, conn net.Conn, office Office) error {
	return serve(conn, func(ask Ask) (*Admission, error) { return office.Admit(ctx, ask) })
}

// ServeIssue answers one renewal on a connection with ALPN tacit-issue/1. The
// node is the one that the client's certificate names; its key is handed on,
// since the certificate may have expired.
func ServeIssue(ctx context.Context, conn *tls.Conn, office Office) error {
	id, leaf, err := identity.PeerID(conn.ConnectionState())
	if err != nil {
		return err
	}
	return serve(conn, func(r Renewal) (*Issued, error) {
		return office.Issue(ctx, id.Name(), leaf.RawSubjectPublicKeyInfo, r)
	})
}

func serve[Q, A any](conn net.Conn, handle func(Q) (*A, error)) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	var ask Q
	if err := json.NewDecoder(io.LimitReader(conn, maxAsk)).Decode(&ask); err != nil {
		return fmt.Errorf("enrolment: unreadable request: %w", err)
	}
	body, err := handle(ask)
	out := answer[A]{Body: body}
	if err != nil {
		out = answer[A]{Error: err.Error()}
	}
	return errors.Join(err, json.NewEncoder(conn).Encode(out))
}

// Enrol redeems a token at one of the addresses, in order, and checks that
// the answer is pinned to the token's root.
func Enrol(ctx context.Context, t *identity.Token, ask Ask, addrs []string) (*Admission, error) {
	var errs []error
	for _, addr := range addrs {
		a, err := call[Ask, Admission](ctx, addr, identity.EnrolTLS(t), ask)
		if err == nil || errors.Is(err, ErrRefused) {
			return a, err
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no authority could be reached: %w", errors.Join(errs...))
}

// Renew asks the authority's node at addr for a certificate.
func Renew(ctx context.Context, addr netip.AddrPort, conf *tls.Config, r Renewal) (*Issued, error) {
	return call[Renewal, Issued](ctx, addr.String(), conf, r)
}

func call[Q, A any](ctx context.Context, addr string, conf *tls.Config, ask Q) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("authority at %s: %w", addr, err)
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	if err := json.NewEncoder(conn).Encode(ask); err != nil {
		return nil, fmt.Errorf("authority at %s: %w", addr, err)
	}
	var out answer[A]
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&out); err != nil {
		return nil, fmt.Errorf("authority at %s: unreadable answer: %w", addr, err)
	}
	if out.Error != "" || out.Body == nil {
		return nil, fmt.Errorf("%w: %s", ErrRefused, out.Error)
	}
	return out.Body, nil
}
