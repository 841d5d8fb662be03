// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The lane protocol: frames inside TLS, each within one record. Header, 8
// bytes, big endian: kind, 0, length of the payload (16 bit), stream (32 bit).
//
//	OPEN   sent by the dialer only, when the stream before is over; begins a
//	       stream, whose number is higher than all before
//	DATA   1 byte at least
//	FIN    no more DATA in this direction; the other goes on
//	RESET  a reason; the other end answers with RESET unless it has sent one
//	PROVE  stream 0; proves a service (before the OPEN that names it, or in
//	       answer to one that asks), or renews the sender's node certificate
//
// A stream is over when FIN, or RESET, has gone both ways. Frames of a stream
// that is over may still arrive; they are skipped.
type kind byte

const (
	kindOpen kind = iota + 1
	kindData
	kindFin
	kindReset
	kindProve
)

// String is the kind's name in the protocol.
func (k kind) String() string {
	return [...]string{kindOpen: "OPEN", kindData: "DATA", kindFin: "FIN", kindReset: "RESET", kindProve: "PROVE"}[k]
}

type header struct {
	kind   kind
	length int
	stream uint32
}

// errFrame says that the peer sent an invalid frame; the lane ends.
var errFrame = errors.New("the peer broke the lane protocol; both nodes must run compatible versions")

func (h header) put(b []byte) {
	b[0], b[1] = byte(h.kind), 0
	binary.BigEndian.PutUint16(b[2:], uint16(h.length))
	binary.BigEndian.PutUint32(b[4:], h.stream)
}

func parseHeader(b [headerSize]byte) (header, error) {
	h := header{kind(b[0]), int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint32(b[4:])}
	ok := b[1] == 0 && h.length <= payloadSize && (h.stream == 0) == (h.kind == kindProve)
	switch h.kind {
	case kindOpen, kindData, kindProve:
		ok = ok && h.length > 0
	case kindFin:
		ok = ok && h.length == 0
	case kindReset:
		ok = ok && h.length <= maxReason
	default:
		ok = false
	}
	if !ok {
		return header{}, fmt.Errorf("%w: header %x", errFrame, b)
	}
	return h, nil
}

const maxReason = 32 // bytes of a reason

// appendFrame appends a complete frame to out.
func appendFrame(out []byte, k kind, stream uint32, payload []byte) []byte {
	var h [headerSize]byte
	header{k, len(payload), stream}.put(h[:])
	return append(append(out, h[:]...), payload...)
}
