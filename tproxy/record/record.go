// SPDX-License-Identifier: Apache-2.0

// Package record is the record layer of TLS 1.3 (RFC 8446, 5) for a connection
// whose handshake crypto/tls has done: it seals and opens records in the buffers
// of its caller, without a copy. What crypto/tls would do with records after the
// handshake is done here: changes of keys, alerts and limits.
//
// The package must not read or write a connection after the handshake, nor keep a
// secret anywhere but in memory, nor do any part of a handshake itself.
package record

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

// A record is a header, the plaintext, which is sealed together with its type, and
// the tag of the AEAD.
const (
	HeaderSize   = 5
	TailSize     = 1 + tagSize
	MaxPlaintext = 1 << 14
	MaxRecord    = HeaderSize + maxSealed    // with the padding that a peer may add
	UpdateSize   = HeaderSize + 5 + TailSize // of the record made by Sealer.Update
	EndSize      = HeaderSize + 2 + TailSize // of the record made by Sealer.End
	maxSealed    = MaxPlaintext + 256        // RFC 8446, 5.2
	tagSize      = 16                        // of every AEAD of TLS 1.3
	version      = uint16(tls.VersionTLS12)  // in the header of every record, for middle boxes
)

// Types of content (RFC 8446, 5.1).
const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

// Alerts (RFC 8446, 6).
const (
	alertCloseNotify       tls.AlertError = 0
	alertUnexpectedMessage tls.AlertError = 10
	alertBadRecordMAC      tls.AlertError = 20
	alertRecordOverflow    tls.AlertError = 22
	alertIllegalParameter  tls.AlertError = 47
	alertDecodeError       tls.AlertError = 50
	alertProtocolVersion   tls.AlertError = 70
	alertInternalError     tls.AlertError = 80
	alertUserCanceled      tls.AlertError = 90
)

// Violation is what a peer did against the protocol. The connection must be
// closed; Sealer.End makes the alert that says why.
type Violation struct {
	Alert tls.AlertError
	what  string
}

func (v *Violation) Error() string { return v.what }

func violation(alert tls.AlertError, format string, args ...any) *Violation {
	return &Violation{Alert: alert, what: fmt.Sprintf(format, args...)}
}

// Length is how many bytes the record at the beginning of b has, its header
// included, or 0 if the header isn't complete. Every error is a *Violation.
func Length(b []byte) (int, error) {
	if len(b) < HeaderSize {
		return 0, nil
	}
	sealed := int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case b[0] != typeData:
		return 0, violation(alertUnexpectedMessage, "a record of type %d after the handshake", b[0])
	case binary.BigEndian.Uint16(b[1:]) != version:
		return 0, violation(alertProtocolVersion, "a record of version %#x, not %#x", b[1:3], version)
	case sealed > maxSealed:
		return 0, violation(alertRecordOverflow, "a record of %d bytes; at most %d are allowed", sealed, maxSealed)
	case sealed < TailSize:
		return 0, violation(alertBadRecordMAC, "a record of %d bytes; the type and the tag alone have %d", sealed, TailSize)
	}
	return HeaderSize + sealed, nil
}
