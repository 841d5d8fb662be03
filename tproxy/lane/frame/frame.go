// SPDX-License-Identifier: Apache-2.0

// Package frame has the frames of the lane protocol, and packs them into TLS
// records (docs/lane-protocol.md). It must not know what a stream or a connection
// is.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind says what a frame is for.
type Kind byte

// The kinds.
const (
	Open   Kind = iota + 1 // begins a stream; sent by the dialer only
	Data                   // bytes of a stream
	Fin                    // no more Data in this direction; the other goes on
	Reset                  // the stream is over in both directions; a reason
	Prove                  // proves a service, or renews the sender's node certificate
	Answer                 // what Open asked to be proven was proven before this frame
	Credit                 // the receiver may send that many more bytes of a stream
	Ping                   // asks for a sign of life
	Pong                   // is one
	Retire                 // the sender takes no further streams on this lane
)

// String is the kind's name in the protocol.
func (k Kind) String() string {
	return [...]string{Open: "OPEN", Data: "DATA", Fin: "FIN", Reset: "RESET", Prove: "PROVE",
		Answer: "ANSWER", Credit: "CREDIT", Ping: "PING", Pong: "PONG", Retire: "RETIRE"}[k]
}

// Sizes in bytes. Each frame lies within one record.
const (
	HeaderSize = 8
	MaxPayload = recordSize - HeaderSize
	MaxReason  = 32
	creditSize = 4
)

// Header is what a frame begins with: kind, 0, length of the payload (16 bit),
// stream (32 bit), big endian. Stream 0 is the lane itself.
type Header struct {
	Kind   Kind
	Length int
	Stream uint32
}

// Err says that the peer sent an invalid frame; the lane ends.
var Err = errors.New("the peer broke the lane protocol; both nodes must run compatible versions")

func (h Header) put(b []byte) {
	b[0], b[1] = byte(h.Kind), 0
	binary.BigEndian.PutUint16(b[2:], uint16(h.Length))
	binary.BigEndian.PutUint32(b[4:], h.Stream)
}

// Next returns the first frame of a record's plaintext, its payload, and what
// follows it.
func Next(b []byte) (h Header, payload, rest []byte, err error) {
	if len(b) < HeaderSize {
		return Header{}, nil, nil, fmt.Errorf("%w: a record ends within a header", Err)
	}
	h = Header{Kind(b[0]), int(binary.BigEndian.Uint16(b[2:])), binary.BigEndian.Uint32(b[4:])}
	if b[1] != 0 || !h.valid() {
		return Header{}, nil, nil, fmt.Errorf("%w: header %x", Err, b[:HeaderSize])
	}
	b = b[HeaderSize:]
	if len(b) < h.Length {
		return Header{}, nil, nil, fmt.Errorf("%w: a record ends within a frame", Err)
	}
	return h, b[:h.Length:h.Length], b[h.Length:], nil
}

func (h Header) valid() bool {
	switch h.Kind {
	case Open, Data:
		return h.Stream != 0 && h.Length > 0
	case Fin, Answer:
		return h.Stream != 0 && h.Length == 0
	case Reset:
		return h.Stream != 0 && h.Length <= MaxReason
	case Credit:
		return h.Stream != 0 && h.Length == creditSize
	case Prove:
		return h.Stream == 0 && h.Length > 0
	case Ping, Pong, Retire:
		return h.Stream == 0 && h.Length == 0
	}
	return false
}

// Amount is what a Credit grants.
func Amount(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

// Granting is the payload of a Credit.
func Granting(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
