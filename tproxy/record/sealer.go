// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// keyLimit is how many records are sealed under one key. RFC 8446, 5.5 allows
// 2^24.5 full ones with AES-GCM.
const keyLimit = 1 << 24

// begun is how many more records may be sealed under a key: their places in a buffer
// were chosen before the limit was reached.
const begun = 64

// ErrUpdate says that the key must be changed by Update before the next data.
var ErrUpdate = errors.New("the key must be changed before more data are sealed")

// ErrEnded says that nothing can be sealed after End.
var ErrEnded = errors.New("nothing can be sealed after the end")

// Sealer seals the records of one direction. They must be sent in the order in
// which they were sealed, and each of them. It isn't safe for concurrent use.
type Sealer struct {
	keys  *keys
	limit uint64 // of records under one key; what carries no data may follow, which is one record at most
	owed  bool   // the peer has asked for a new key
	ended bool
}

// Seal makes a record of the n bytes at buf[HeaderSize:], in place, and returns
// its length: buf must have room for HeaderSize+n+TailSize bytes. It refuses with
// ErrUpdate what NeedUpdate doesn't allow any more; where the key is used up, some
// records later, so that a caller may look once for several records.
func (s *Sealer) Seal(buf []byte, n int) (int, error) {
	if s.owed || s.keys.seq >= s.limit+begun {
		return 0, ErrUpdate
	}
	return s.seal(buf, n, typeData)
}

// NeedUpdate says whether Update must come before the next data: the key is used
// up, or the peer asked for a new one.
func (s *Sealer) NeedUpdate() bool { return s.owed || s.keys.seq >= s.limit }

// Update makes a KeyUpdate record (RFC 8446, 4.6.3) of UpdateSize bytes at the
// beginning of buf. What is sealed afterwards is under the next key.
func (s *Sealer) Update(buf []byte) (int, error) { return s.update(buf, updateNotRequested) }

func (s *Sealer) update(buf []byte, request byte) (int, error) {
	n, err := s.control(buf, typeHandshake, messageKeyUpdate, 0, 0, 1, request)
	if err != nil {
		return 0, err
	}
	s.owed = false
	return n, s.keys.update()
}

// End makes an alert record of EndSize bytes at the beginning of buf, the last one
// of this direction: close_notify if cause is nil or io.EOF, else the alert that
// tells the peer what it did wrong, or that this node failed.
func (s *Sealer) End(buf []byte, cause error) (int, error) {
	const warning, fatal = 1, 2
	level, alert := byte(fatal), alertInternalError
	var v *Violation
	switch {
	case cause == nil, errors.Is(cause, io.EOF):
		level, alert = warning, alertCloseNotify
	case errors.As(cause, &v):
		alert = v.Alert
	}
	n, err := s.control(buf, typeAlert, level, byte(alert))
	s.ended = s.ended || err == nil
	return n, err
}

// control seals a record that carries no data.
func (s *Sealer) control(buf []byte, typ byte, content ...byte) (int, error) {
	if len(buf) < HeaderSize+len(content)+TailSize {
		return 0, short(buf, len(content))
	}
	return s.seal(buf, copy(buf[HeaderSize:], content), typ)
}

func (s *Sealer) seal(buf []byte, n int, typ byte) (int, error) {
	total := HeaderSize + n + TailSize
	switch {
	case s.ended:
		return 0, ErrEnded
	case n < 0 || n > MaxPlaintext || len(buf) < total:
		return 0, short(buf, n)
	}
	buf[0] = typeData // outside, all records look the same
	binary.BigEndian.PutUint16(buf[1:], version)
	binary.BigEndian.PutUint16(buf[3:], uint16(n+TailSize))
	buf[HeaderSize+n] = typ
	s.keys.aead.Seal(buf[HeaderSize:HeaderSize], s.keys.next(), buf[HeaderSize:HeaderSize+n+1], buf[:HeaderSize])
	return total, nil
}

func short(buf []byte, n int) error {
	return fmt.Errorf("%d bytes can't be sealed in a buffer of %d: a record has %d bytes more, and at most %d", n, len(buf), HeaderSize+TailSize, MaxPlaintext)
}
