// SPDX-License-Identifier: Apache-2.0

// Package enrol is the protocol by which a node gets certificates: the enrolment of
// a new node by token, and the renewal of node and service certificates. Each is
// one request and one answer on a TLS connection to an authority's lane port. It
// must not decide who gets which certificate: the Issuer does.
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
	"strings"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/policy/ledger"
)

const (
	deadline  = 10 * time.Second
	askTime   = 5 * time.Second // for the request to arrive
	maxAsk    = 256 << 10       // bytes of a request: a token with its grants and a CSR
	maxAnswer = 64 << 20        // bytes of an answer: all records of a large mesh
)

// Ask is the request of a new node.
type Ask struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"` // PKCS#10, DER
}

// Admission is the authority's answer: all that the node needs to be a member.
type Admission struct {
	Chain   []byte          `json:"chain"` // PEM, leaf first
	Root    []byte          `json:"root"`  // DER
	Records []ledger.Record `json:"records"`
}

// Renewal requests a certificate: the node's (Service is empty) or a service's.
type Renewal struct {
	Service identity.Name `json:"service,omitempty"`
	CSR     []byte        `json:"csr"`
}

// Issued answers a Renewal.
type Issued struct {
	Chain []byte `json:"chain"` // PEM, leaf first
}

// Issuer is the authority's side. The texts of its errors reach the requesting node.
type Issuer interface {
	Admit(ctx context.Context, ask Ask) (*Admission, error)
	Issue(ctx context.Context, node identity.Name, spki []byte, r Renewal) (*Issued, error)
}

// ErrRefused means that the authority answered with a refusal.
var ErrRefused = errors.New("the authority refused")

type answer[T any] struct {
	Error string `json:"error,omitempty"`
	Body  *T     `json:"body,omitempty"`
}

// ServeAdmission answers one enrolment on a connection with ALPN tacit-enrol/1.
func ServeAdmission(ctx context.Context, conn net.Conn, issuer Issuer) error {
	return serve(ctx, conn, func(ask Ask) (*Admission, error) { return issuer.Admit(ctx, ask) })
}

// ServeIssue answers one renewal on a connection with ALPN tacit-issue/1. The
// client's certificate names the node. The issuer also gets the certificate's key,
// because the certificate may have expired.
func ServeIssue(ctx context.Context, conn *tls.Conn, issuer Issuer) error {
	id, leaf, err := identity.PeerID(conn.ConnectionState())
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return serve(ctx, conn, func(r Renewal) (*Issued, error) {
		return issuer.Issue(ctx, id.Name(), leaf.RawSubjectPublicKeyInfo, r)
	})
}

// serve reads one request and writes one answer. It ends with ctx, or after the
// deadline, whatever the client does.
func serve[Q, A any](ctx context.Context, conn net.Conn, handle func(Q) (*A, error)) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if err := conn.SetReadDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	defer interrupt(ctx, conn)()
	var ask Q
	from := &io.LimitedReader{R: conn, N: maxAsk}
	if err := json.NewDecoder(from).Decode(&ask); err != nil {
		return refuseRequest(conn, from, err)
	}
	body, err := handle(ask)
	if err == nil && body == nil {
		err = errors.New("the issuer returned no answer")
	}
	out := answer[A]{Body: body}
	if err != nil {
		out = answer[A]{Error: err.Error()}
	}
	return errors.Join(err, json.NewEncoder(conn).Encode(out))
}

// refuseRequest answers an unreadable request. It reads some of the bytes that the
// client may still send: closing with unread data sends a RST, and the client could
// lose the answer.
func refuseRequest(conn net.Conn, from *io.LimitedReader, err error) error {
	err = fmt.Errorf("unreadable request: %w", err)
	if from.N <= 0 {
		err = fmt.Errorf("unreadable request: longer than %d bytes", maxAsk)
	}
	if answered := json.NewEncoder(conn).Encode(answer[struct{}]{Error: err.Error()}); answered == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxAsk))
	}
	return fmt.Errorf("enrolment: %w", err)
}

// interrupt ends reads and writes when ctx ends, until stop is called.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// Enrol redeems a token at the first of the addresses that answers; it sends the
// token only to an authority under the token's root. Errors: ErrRefused.
func Enrol(ctx context.Context, t *identity.Token, ask Ask, addrs []string) (*Admission, error) {
	if len(addrs) == 0 {
		return nil, errors.New("no address of an authority is known: give one with --join")
	}
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

// Renew requests a certificate from the authority at addr. Errors: ErrRefused.
func Renew(ctx context.Context, addr netip.AddrPort, conf *tls.Config, r Renewal) (*Issued, error) {
	return call[Renewal, Issued](ctx, addr.String(), conf, r)
}

func call[Q, A any](ctx context.Context, addr string, conf *tls.Config, ask Q) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("authority at %s: %w", addr, explained(err))
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()
	out, err := exchange[Q, A](conn, ask)
	if err != nil {
		return nil, fmt.Errorf("authority at %s: %w", addr, errors.Join(ctx.Err(), err))
	}
	if out.Error != "" || out.Body == nil {
		return nil, fmt.Errorf("%w: %s", ErrRefused, out.Error)
	}
	return out.Body, nil
}

// explained says in words how a lane port refuses: where there is no authority with
// an alert, which crypto/tls gives no type, and for want of room with a reset.
func explained(err error) error {
	switch {
	case strings.HasSuffix(err.Error(), "tls: no application protocol"):
		return errNoAuthority
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%w; does its lane port refuse this host? tacit status there says why", err)
	}
	return err
}

var errNoAuthority = errors.New("this node is not an authority; ask the one that the token names")

func exchange[Q, A any](conn net.Conn, ask Q) (*answer[A], error) {
	if err := json.NewEncoder(conn).Encode(ask); err != nil {
		return nil, err
	}
	var out answer[A]
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&out); err != nil {
		return nil, fmt.Errorf("unreadable answer: %w", err)
	}
	return &out, nil
}
