// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// TestSoundPackets: what memberlist would unpack or nest isn't given to it.
func TestSoundPackets(t *testing.T) {
	for text, want := range map[string]bool{
		"":                         false,
		"\x00ping":                 true,
		"\x04alive":                true,
		"\x0bnack":                 true,
		"\x06push/pull":            false,
		"\x08payload":              false,
		"\x09compressed":           false,
		"\x0aencrypted":            false,
		"\x0c1234\x04alive":        true,
		"\x0c1234\x09compressed":   false,
		"\x0c1234":                 false,
		"\x07\x01\x00\x05\x00ping": true,
		"\x07\x02\x00\x05\x00\x06\x00ping\x04alive": true,
		"\x07\x01\x00\x05\x09comp":                  false,
		"\x07\x01\x00\x05\x07\x00\x00\x00\x00":      false,
		"\x07\x01\x00\x06\x00ping":                  false,
		"\x07\x09\x00\x05\x00ping":                  false,
		"\x07":                                      false,
	} {
		if got := soundPacket([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzSoundPacket(f *testing.F) {
	f.Add([]byte("\x07\x02\x00\x05\x00\x06\x00ping\x04alive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if soundPacket(b) && bytes.HasPrefix(b, []byte{9}) {
			t.Errorf("%x is compressed", b)
		}
	})
}

// reading is a connection from which text comes.
type reading struct {
	net.Conn
	io.Reader
}

func (r reading) Read(p []byte) (int, error) { return r.Reader.Read(p) }

// TestGuardedStreams: lists of nodes that announce more than there can be, or a
// delegate's state, end before memberlist reads them.
func TestGuardedStreams(t *testing.T) {
	list := func(nodes, state string) string {
		return "\x06\x83\xa4Join\xc3\xa5Nodes" + nodes + "\xacUserStateLen" + state
	}
	for text, want := range map[string]error{
		"\x00ping":                                 nil,
		"\x02ack":                                  nil,
		"\x0derror":                                nil,
		list("\x03", "\x00") + "nodes":             nil,
		list("\xcc\xff", "\x00"):                   nil,
		list("\xd1\x0f\xff", "\x00"):               nil,
		list("\xcd\x10\x01", "\x00"):               errUnsound,
		list("\xd1\xff\xff", "\x00"):               errUnsound,
		list("\xd2\x00\x10\x00\x00", "\x00"):       errUnsound,
		list("\x03", "\xd2\x01\x00\x00\x00"):       errUnsound,
		"\x06\x83\xa5Nodes\x01\xa4Join\xc3padding": errUnsound,
		"\x06\x83":                                 io.EOF,
		"\x09compressed":                           errUnsound,
		"\x0aencrypted":                            errUnsound,
		"\x08payload":                              errUnsound,
		"":                                         io.EOF,
		"\x00" + strings.Repeat("x", mlStream):     errUnsound,
	} {
		got, err := io.ReadAll(guard(reading{Reader: strings.NewReader(text)}))
		if want == io.EOF { // which ReadAll doesn't return
			want = nil
			text = ""
		}
		if !errors.Is(err, want) || err == nil && string(got) != text {
			t.Errorf("%.40q: %q, %v", text, fmt.Sprintf("%.40s", got), err)
		}
	}
}
