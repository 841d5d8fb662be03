// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"errors"
	"strings"

	"tacit/identity"
)

// ErrMalformed means that a packet is no DNS query; it gets no answer.
var ErrMalformed = errors.New("not a DNS query")

// Wire format (RFC 1035, section 4.1).
const (
	headerSize = 12
	maxName    = 255
	maxLabel   = 63

	flagResponse  = 0x80 // byte 2
	flagOpcode    = 0x78
	flagRecursion = 0x01
	flagAvailable = 0x80 // byte 3
	maskRcode     = 0x0f

	rcodeFormErr  = 1
	rcodeServFail = 2
)

// question is the part of a query that forwarding needs. It is parsed by hand, so
// that options and records which the library doesn't know pass unchanged.
type question struct {
	id     uint16
	opcode uint8
	count  int      // number of questions; only the first is parsed
	labels []string // lower case, as on the wire
	qtype  uint16
	class  uint16
	end    int           // offset of the end of the first question
	real   identity.Name // the outside service whose real name it asks for, by a program that isn't the mesh's
}

// parseQuestion parses header and first question of a query.
func parseQuestion(p []byte) (question, error) {
	if len(p) < headerSize || p[2]&flagResponse != 0 {
		return question{}, ErrMalformed
	}
	q := question{
		id:     binary.BigEndian.Uint16(p),
		opcode: p[2] & flagOpcode >> 3,
		count:  int(binary.BigEndian.Uint16(p[4:])),
		end:    headerSize,
	}
	if q.count == 0 {
		return q, nil // legal: RFC 7873, section 5.4, and RFC 8490
	}
	labels, end, err := parseName(p, headerSize)
	if err != nil || len(p) < end+4 {
		return question{}, ErrMalformed
	}
	q.labels = labels
	q.qtype = binary.BigEndian.Uint16(p[end:])
	q.class = binary.BigEndian.Uint16(p[end+2:])
	q.end = end + 4
	return q, nil
}

// parseName parses an uncompressed name; a first question can't be compressed.
func parseName(p []byte, at int) (labels []string, end int, err error) {
	for begin := at; at < len(p); {
		n := int(p[at])
		at++
		if n == 0 {
			return labels, at, nil
		}
		if n > maxLabel || at+n > len(p) || at+n-begin > maxName-1 {
			return nil, 0, ErrMalformed
		}
		labels = append(labels, lower(string(p[at:at+n])))
		at += n
	}
	return nil, 0, ErrMalformed
}

// lower folds ASCII only (RFC 4343) and keeps all other bytes.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// splitName splits a configured name into lower-case labels; nil if it is invalid.
func splitName(name string) []string {
	name = strings.Trim(lower(strings.TrimSpace(name)), ".")
	if name == "" || len(name) > maxName-2 {
		return nil
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxLabel {
			return nil
		}
	}
	return labels
}

// failure answers query with nothing but rcode.
func failure(query []byte, q question, rcode byte) []byte {
	if q.count > 1 {
		q.end = headerSize // the other questions weren't parsed
	}
	r := make([]byte, q.end)
	copy(r, query[:q.end])
	r[2] = flagResponse | query[2]&(flagOpcode|flagRecursion)
	r[3] = flagAvailable | rcode
	clear(r[4:headerSize])
	if q.end > headerSize {
		r[5] = 1
	}
	return r
}

// answers reports whether reply answers query: same ID, same question (RFC 5452,
// section 9.1). An error reply may omit the question.
func answers(reply, query []byte, q question) bool {
	if len(reply) < headerSize || reply[2]&flagResponse == 0 || reply[0] != query[0] || reply[1] != query[1] {
		return false
	}
	n := int(binary.BigEndian.Uint16(reply[4:]))
	if n == 0 {
		return q.count == 0 || reply[3]&maskRcode != 0
	}
	if n != q.count || len(reply) < q.end {
		return false
	}
	return lower(string(reply[headerSize:q.end-4])) == lower(string(query[headerSize:q.end-4])) &&
		string(reply[q.end-4:q.end]) == string(query[q.end-4:q.end])
}
