// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
)

/*
memberlist allocates what a stream announces, over 100 MB by a few bytes, and unpacks
packets that say they are compressed. Every member can send it such. Only what this
version of memberlist writes with our settings is let through to it.
*/

// Types of memberlist's messages (its net.go).
const (
	mlPing      = 0
	mlAck       = 2
	mlDead      = 5
	mlPushPull  = 6
	mlCompound  = 7
	mlNack      = 11
	mlCRC       = 12
	mlError     = 13
	mlStream    = 2 << 20 // bytes of one stream: the list of maxMembers nodes has less
	mlCRCHeader = 5
)

// errUnsound: memberlist would not have written it.
var errUnsound = errors.New("not in the form of a list of nodes")

// soundPacket reports whether a packet may be given to memberlist.
func soundPacket(b []byte) bool {
	if len(b) > mlCRCHeader && b[0] == mlCRC {
		b = b[mlCRCHeader:]
	}
	if len(b) < 2 || b[0] != mlCompound {
		return soundMessage(b)
	}
	lengths, parts := b[2:], b[2:]
	if len(parts) < 2*int(b[1]) {
		return false
	}
	parts = parts[2*int(b[1]):]
	for i := range int(b[1]) {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(parts) || !soundMessage(parts[:n]) {
			return false
		}
		parts = parts[n:]
	}
	return true
}

func soundMessage(b []byte) bool { return len(b) > 0 && (b[0] <= mlDead || b[0] == mlNack) }

// guarded is a stream for memberlist.
type guarded struct {
	net.Conn
	from *bufio.Reader
	read int
}

func guard(c net.Conn) net.Conn { return &guarded{Conn: c, from: bufio.NewReader(c)} }

// Read fails when what comes is unsound or too long.
func (g *guarded) Read(p []byte) (int, error) {
	if g.read == 0 {
		if err := g.check(); err != nil {
			return 0, err
		}
	}
	n, err := g.from.Read(p)
	if g.read += n; g.read > mlStream {
		return 0, errUnsound
	}
	return n, err
}

// check looks at the first message without taking it.
func (g *guarded) check() error {
	first, err := g.from.Peek(1)
	if err != nil {
		return err
	}
	switch first[0] {
	case mlPing, mlAck, mlError:
		return nil
	case mlPushPull:
		return g.checkHeader()
	}
	return errUnsound
}

// checkHeader checks the number of nodes; the state of the delegate is always empty.
func (g *guarded) checkHeader() error {
	before, after := []byte("\x06\x83\xa4Join?\xa5Nodes"), []byte("\xacUserStateLen\x00")
	head, err := g.from.Peek(len(before) + 1)
	if err != nil {
		return err
	}
	join := bytes.IndexByte(before, '?')
	before[join] = head[join] // a bool, c2 or c3
	number := numberLength(head[len(before)])
	if !bytes.HasPrefix(head, before) || number == 0 {
		return errUnsound
	}
	if head, err = g.from.Peek(len(before) + number + len(after)); err != nil {
		return err
	}
	digits, rest := head[len(before):len(before)+number], head[len(before)+number:]
	if !bytes.Equal(rest, after) || number == 3 && binary.BigEndian.Uint16(digits[1:]) > maxMembers {
		return errUnsound
	}
	return nil
}

// numberLength is the length of a msgpack integer of at most 16 bits, by its first byte.
func numberLength(first byte) int {
	switch {
	case first < 0x80:
		return 1
	case first == 0xcc || first == 0xd0:
		return 2
	case first == 0xcd || first == 0xd1:
		return 3
	}
	return 0
}
