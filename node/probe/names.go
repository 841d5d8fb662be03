// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// tryNames sends the query in three ways, as resolvers of different C libraries do.
func (t Task) tryNames() error {
	for _, way := range []struct {
		name string
		ask  func([]byte) ([]byte, error)
	}{
		{"udp, not connected", t.askUnconnected},
		{"udp, connected", t.askConnected},
		{"tcp", t.askTCP},
	} {
		query, err := newQuery(t.Ask, t.Want)
		if err != nil {
			return err
		}
		reply, err := way.ask(query)
		if err == nil {
			err = t.expectAnswer(query, reply)
		}
		if err != nil {
			return fmt.Errorf("over %s: %w", way.name, err)
		}
	}
	return nil
}

// errNotOurs means that another name server answered the query.
var errNotOurs = errors.New("the query didn't reach the daemon: another server answered")

const maxReply = 4096

func (t Task) askUnconnected(query []byte) ([]byte, error) {
	s, err := t.open(unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.sendTo(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxReply)
	n, from, err := s.receive(buf)
	if err == nil && from != s.to {
		err = fmt.Errorf("asked %s and got the answer from %s, which programs discard", s.to, from)
	}
	return buf[:n], err
}

func (t Task) askConnected(query []byte) ([]byte, error) {
	s, err := t.open(unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(); err != nil {
		return nil, err
	}
	if err := s.expectPeer(); err != nil {
		return nil, err
	}
	if err := s.send(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxReply)
	n, _, err := s.receive(buf)
	return buf[:n], err
}

func (t Task) askTCP(query []byte) ([]byte, error) {
	s, err := t.open(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(); err != nil {
		return nil, err
	}
	if err := s.expectPeer(); err != nil {
		return nil, err
	}
	if err := s.send(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	head, err := s.readAll(2)
	if err != nil || len(head) < 2 {
		return nil, errors.Join(errNotOurs, err)
	}
	return s.readAll(int(binary.BigEndian.Uint16(head)))
}

// Record types and sizes of RFC 1035.
const (
	typeA      = 1
	typeAAAA   = 28
	headerSize = 12
)

// newQuery returns a query for the address family of want.
func newQuery(name, want string) ([]byte, error) {
	addr, err := netip.ParseAddr(want)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	kind := uint16(typeA)
	if addr.Is6() {
		kind = typeAAAA
	}
	q := []byte{0x7a, 0xc1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} // one question, recursion desired
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	q = binary.BigEndian.AppendUint16(append(q, 0), kind)
	return binary.BigEndian.AppendUint16(q, 1), nil // class IN
}

// expectAnswer checks that the reply has one record, the address that only the daemon
// knows.
func (t Task) expectAnswer(query, reply []byte) error {
	want := netip.MustParseAddr(t.Want).AsSlice()
	if len(reply) < headerSize || reply[0] != query[0] || reply[1] != query[1] || reply[2]&0x80 == 0 {
		return errNotOurs
	}
	if code := reply[3] & 15; code != 0 || binary.BigEndian.Uint16(reply[6:]) != 1 {
		return errNotOurs
	}
	// question, owner (a pointer or the name again), type, class, TTL, length, address
	if len(reply) < len(query)+2+10+len(want) || string(reply[headerSize:len(query)]) != string(query[headerSize:]) {
		return errNotOurs
	}
	rest := reply[len(query):]
	for len(rest) > 0 && rest[0] != 0 && rest[0]&0xc0 == 0 {
		rest = rest[min(len(rest), 1+int(rest[0])):]
	}
	if len(rest) > 0 && rest[0] == 0 {
		rest = rest[1:]
	} else {
		rest = rest[min(len(rest), 2):]
	}
	if len(rest) < 10+len(want) || string(rest[10:10+len(want)]) != string(want) {
		return errNotOurs
	}
	return nil
}
