// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/tls"
	"fmt"
	"io"
	"math"
)

// Messages after the handshake (RFC 8446, 4.6).
const (
	messageKeyUpdate   = 24
	updateNotRequested = 0
	updateRequested    = 1
)

const (
	idleLimit   = 16   // records without data in a row
	updateBurst = 16   // changes of key that a peer may make at once
	updateEvery = 1024 // records with data for which it may make one more
)

// Opener opens the records of one direction, in the order in which they were
// sealed. After an error it returns this error for ever. It isn't safe for
// concurrent use.
type Opener struct {
	keys    *keys
	out     *Sealer // owes an update when the peer asks for one
	idle    int     // records without data since the last one with data
	updates int     // changes of key that the peer has left
	earned  int     // records with data towards the next one
	err     error
}

// Open opens a whole record in place and returns its data, which are a part of
// record. A record without data, such as a change of keys, gives none. The error
// is io.EOF after close_notify, a *Violation, or wraps the tls.AlertError that the
// peer has sent.
func (o *Opener) Open(record []byte) ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	typ, content, err := o.open(record)
	if err == nil {
		err = o.take(typ, content)
	}
	if err != nil {
		o.err = err
		return nil, err
	}
	if typ != typeData {
		return nil, nil
	}
	return content, nil
}

// open checks and decrypts a record (RFC 8446, 5.2).
func (o *Opener) open(record []byte) (typ byte, content []byte, err error) {
	n, err := Length(record)
	switch {
	case err != nil:
		return 0, nil, err
	case n != len(record) || n == 0:
		return 0, nil, fmt.Errorf("%d bytes aren't one record", len(record))
	case o.keys.seq == math.MaxUint64:
		return 0, nil, violation(alertInternalError, "the peer has never changed its key, and record numbers are used up")
	}
	header, sealed := record[:HeaderSize], record[HeaderSize:]
	inner, err := o.keys.aead.Open(sealed[:0], o.keys.next(), sealed, header)
	if err != nil {
		return 0, nil, violation(alertBadRecordMAC, "a record that isn't authentic")
	}
	if len(inner) > MaxPlaintext+1 {
		return 0, nil, violation(alertRecordOverflow, "a record with %d bytes of content, type and padding", len(inner))
	}
	return unpad(inner)
}

// unpad finds the type, the last byte that isn't zero (RFC 8446, 5.4).
func unpad(inner []byte) (typ byte, content []byte, err error) {
	for i := len(inner) - 1; i >= 0; i-- {
		if inner[i] != 0 {
			return inner[i], inner[:i], nil
		}
	}
	return 0, nil, violation(alertUnexpectedMessage, "a record of nothing but padding")
}

// take carries out what isn't data, and limits it.
func (o *Opener) take(typ byte, content []byte) error {
	switch typ {
	case typeData:
		if len(content) == 0 {
			return o.idled()
		}
		o.earn()
		return nil
	case typeHandshake:
		return o.message(content)
	case typeAlert:
		return o.alert(content)
	}
	return violation(alertUnexpectedMessage, "content of type %d after the handshake", typ)
}

// earn counts a record with data.
func (o *Opener) earn() {
	o.idle = 0
	if o.earned++; o.earned == updateEvery {
		o.earned, o.updates = 0, min(o.updates+1, updateBurst)
	}
}

// idled counts a record that does nothing.
func (o *Opener) idled() error {
	if o.idle++; o.idle > idleLimit {
		return violation(alertUnexpectedMessage, "%d records without data in a row", o.idle)
	}
	return nil
}

// message takes a KeyUpdate, which must be all that its record holds: a change of
// keys is at a record's end (RFC 8446, 5.1). A message in several records is
// refused, too: nobody divides five bytes.
func (o *Opener) message(content []byte) error {
	switch {
	case len(content) == 0:
		return violation(alertUnexpectedMessage, "an empty part of a handshake message")
	case content[0] != messageKeyUpdate:
		return violation(alertUnexpectedMessage, "a handshake message of type %d after the handshake", content[0])
	case len(content) != 5 || [3]byte(content[1:4]) != [3]byte{0, 0, 1}:
		return violation(alertUnexpectedMessage, "a change of keys that isn't one message in one record")
	case content[4] > updateRequested:
		return violation(alertIllegalParameter, "a change of keys with the request %d", content[4])
	case o.updates == 0:
		return violation(alertUnexpectedMessage, "the peer changes its key too often")
	}
	o.updates--
	if content[4] == updateRequested {
		o.out.owed = true
	}
	return o.keys.update()
}

// alert takes an alert. Its level counts for nothing (RFC 8446, 6). user_canceled
// announces close_notify, which alone is the end.
func (o *Opener) alert(content []byte) error {
	if len(content) != 2 {
		return violation(alertDecodeError, "an alert of %d bytes", len(content))
	}
	switch alert := tls.AlertError(content[1]); alert {
	case alertCloseNotify:
		return io.EOF
	case alertUserCanceled:
		return o.idled()
	default:
		return fmt.Errorf("the peer ended the connection: %w", alert)
	}
}
