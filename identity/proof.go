// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Role is the purpose of a proof. A proof for one role is not valid for another.
type Role byte

// The roles.
const (
	RoleClient Role = 1 // the service that calls
	RoleServer Role = 2 // the service that is called; never an ingress
	RoleNode   Role = 3 // a node certificate proven anew on a live lane
)

// Channel is one TLS connection between two nodes. Exporter is 32 bytes that
// are unique to the connection (RFC 9266).
type Channel struct {
	Dialer, Acceptor ID
	Exporter         []byte
}

// NewChannel takes the exporter from a connection whose handshake is done.
func NewChannel(cs tls.ConnectionState, dialer, acceptor ID) (Channel, error) {
	if !cs.HandshakeComplete || cs.Version < tls.VersionTLS13 {
		return Channel{}, errors.New("channel binding: want a TLS 1.3 connection whose handshake is done")
	}
	e, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, exporterSize)
	if err != nil {
		return Channel{}, fmt.Errorf("channel binding: %w", err)
	}
	ch := Channel{dialer, acceptor, e}
	return ch, ch.check()
}

const exporterSize = 32

// check refuses a channel whose fields don't identify one connection.
func (ch Channel) check() error {
	if len(ch.Exporter) != exporterSize || !ch.Dialer.IsNode() || !ch.Acceptor.IsNode() {
		return fmt.Errorf("channel binding: want two nodes and %d exported bytes", exporterSize)
	}
	return nil
}

// Proof shows that its sender holds a certificate's key, on this channel, in
// this role (after the idea of RFC 9261).
type Proof struct {
	Chain     [][]byte `json:"chain"` // DER, leaf first
	Signature []byte   `json:"signature"`
}

// proofContext differs from what TLS signs, which begins with 64 spaces (RFC
// 8446, 4.4.3).
const proofContext = "tacit lane proof v1"

// ErrProof says that a proof doesn't verify.
var ErrProof = errors.New("the proof does not hold on this lane")

// Prove makes a proof of s for a channel.
func Prove(s *SVID, role Role, ch Channel) (Proof, error) {
	if err := ch.check(); err != nil {
		return Proof{}, err
	}
	if err := ch.fits(role, s.ID); err != nil {
		return Proof{}, err
	}
	sig, err := s.Key.Sign(proofContext, ch.message(role, s.ID))
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Signature: sig}
	for _, c := range s.Chain {
		p.Chain = append(p.Chain, c.Raw)
	}
	return p, nil
}

// Verify checks chain and signature, and that the ID fits the role: a service,
// or for RoleNode one of the channel's ends. It returns the ID and the chain, which
// refers to p's bytes. The caller checks which end it must be, whether its node is
// granted the service, and that no key of the chain is revoked. Errors: ErrProof.
func (p Proof) Verify(b *Bundle, role Role, ch Channel, now time.Time) (ID, []*x509.Certificate, error) {
	if err := ch.check(); err != nil {
		return ID{}, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	chain, err := parseChain(p.Chain)
	if err != nil {
		return ID{}, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	id, err := b.Verify(chain, now)
	if err != nil {
		return ID{}, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if err := ch.fits(role, id); err != nil {
		return ID{}, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if err := VerifySignature(chain[0].RawSubjectPublicKeyInfo, proofContext, ch.message(role, id), p.Signature); err != nil {
		return ID{}, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return id, chain, nil
}

func (ch Channel) fits(role Role, id ID) error {
	switch role {
	case RoleClient, RoleServer:
		if id.IsService() && (role == RoleClient || !id.Name().IsIngress()) {
			return nil
		}
	case RoleNode:
		if id == ch.Dialer || id == ch.Acceptor {
			return nil
		}
	}
	return fmt.Errorf("%s can't have role %d here", id, role)
}

// message is everything that a proof covers, each part preceded by its length.
func (ch Channel) message(role Role, who ID) []byte {
	out := []byte{byte(role)}
	for _, part := range []string{who.String(), ch.Dialer.String(), ch.Acceptor.String(), string(ch.Exporter)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}
