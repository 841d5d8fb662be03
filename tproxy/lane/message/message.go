// SPDX-License-Identifier: Apache-2.0

// Package message has what frames carry besides bytes of programs: what OPEN says of a
// stream, proofs, and reasons. It must not judge what it reads.
package message

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
)

// Opening is what OPEN says of a stream: flags (1: prove the destination), the
// names of source and destination and the instance, each preceded by a length
// byte, the port (16 bit), the client's address preceded by a length byte (0, 4
// or 16), and its port.
type Opening struct {
	Source, Destination identity.Name
	Instance            string // at most 255 bytes
	Port                uint16
	Client              netip.AddrPort // the address without a zone; invalid: unknown
	Unproven            bool           // the dialer holds no live proof of the destination
}

const flagProve = 1

// Encode is the payload of OPEN.
func (o Opening) Encode() []byte {
	var flags byte
	if o.Unproven {
		flags = flagProve
	}
	out := []byte{flags}
	for _, s := range []string{string(o.Source), string(o.Destination), o.Instance} {
		out = append(append(out, byte(len(s))), s...)
	}
	out = binary.BigEndian.AppendUint16(out, o.Port)
	addr := o.Client.Addr().Unmap().AsSlice()
	out = append(append(out, byte(len(addr))), addr...)
	return binary.BigEndian.AppendUint16(out, o.Client.Port())
}

// DecodeOpening reads the payload of OPEN.
func DecodeOpening(payload []byte) (Opening, error) {
	r := reader{rest: payload}
	flags := r.byte()
	source, err1 := parseExact(r.short(), identity.ParseSource)
	destination, err2 := parseExact(r.short(), identity.ParseName)
	instance := r.short()
	port := r.uint16()
	addr := r.short()
	client, ok := netip.AddrFromSlice(addr)
	clientPort := r.uint16()
	if r.bad || len(r.rest) > 0 || flags > flagProve || err1 != nil || err2 != nil ||
		(!ok && len(addr) > 0) || !printable(instance) {
		return Opening{}, fmt.Errorf("%w: OPEN %.64x", frame.Err, payload)
	}
	o := Opening{Source: source, Destination: destination, Instance: string(instance), Port: port, Unproven: flags == flagProve}
	if ok {
		o.Client = netip.AddrPortFrom(client.Unmap(), clientPort)
	}
	return o, nil
}

// parseExact accepts a name only in lower case.
func parseExact(b []byte, parse func(string) (identity.Name, error)) (identity.Name, error) {
	n, err := parse(string(b))
	if err == nil && string(n) != string(b) {
		return "", frame.Err
	}
	return n, err
}

// printable says whether a text of the peer may go to a log.
func printable(b []byte) bool {
	for _, r := range string(b) {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// Reason is the reason that a peer sent. One that policy doesn't know is a
// breach of the protocol.
func Reason(text []byte) policy.Reason {
	if r := policy.Reason(text); slices.Contains(policy.Reasons(), r) {
		return r
	}
	return policy.ReasonProtocol
}

// EncodeProof writes role, number of certificates, the certificates in DER, each
// preceded by its length (16 bit), and the signature likewise.
func EncodeProof(role identity.Role, p identity.Proof) ([]byte, error) {
	out := []byte{byte(role), byte(len(p.Chain))}
	for _, part := range append(p.Chain[:len(p.Chain):len(p.Chain)], p.Signature) {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	if len(p.Chain) > 255 || len(out) > frame.MaxPayload {
		return nil, fmt.Errorf("proof of %d bytes: %d is the most; the certificate chain is too long", len(out), frame.MaxPayload)
	}
	return out, nil
}

// DecodeProof reads the payload of PROVE.
func DecodeProof(payload []byte) (identity.Role, identity.Proof, error) {
	r := reader{rest: payload}
	role := identity.Role(r.byte())
	var p identity.Proof
	for n := r.byte(); n > 0 && !r.bad; n-- {
		p.Chain = append(p.Chain, r.long())
	}
	p.Signature = r.long()
	if r.bad || len(r.rest) > 0 {
		return 0, identity.Proof{}, fmt.Errorf("%w: PROVE %.64x", frame.Err, payload)
	}
	return role, p, nil
}

// reader takes fields from the front of a payload; once one is missing, bad stays
// true.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) short() []byte { return r.take(int(r.byte())) }

func (r *reader) long() []byte { return r.take(int(r.uint16())) }
