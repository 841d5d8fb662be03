// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect/listen"
)

// at is a connection whose own address is that of the resolver that was asked.
type at struct {
	net.Conn
	local string
}

func (c at) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.local)) }

// message is a DNS message as it travels over TCP.
func message(text string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)
}

// pair is a TCP connection with both ends in the test's hands.
func pair(t *testing.T) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	testhost.Must(t, err)
	server, err = ln.Accept()
	testhost.Must(t, err)
	return conn.(*net.TCPConn), server
}

// TestAnswerConn: queries over one connection, each after its length.
func TestAnswerConn(t *testing.T) {
	for name, c := range map[string]struct {
		local string
		sent  []byte
		reply []byte
		err   error
		says  string // the error, where it is none of package errors
	}{
		"one":     {sent: message("a?"), reply: message("tcp 10.99.0.53:53 a?")},
		"two":     {sent: append(message("a?"), message("b?")...), reply: append(message("tcp 10.99.0.53:53 a?"), message("tcp 10.99.0.53:53 b?")...)},
		"of IPv6": {local: "[2001:db8::53]:53", sent: message("a?"), reply: message("tcp [2001:db8::53]:53 a?")},
		"none":    {},
		"a long one": {sent: message(strings.Repeat("x", 65535-len("tcp 10.99.0.53:53 "))),
			reply: message("tcp 10.99.0.53:53 " + strings.Repeat("x", 65535-len("tcp 10.99.0.53:53 ")))},
		"cut off in its length":   {sent: []byte{0}},
		"cut off after it":        {sent: message("a?")[:3], err: io.ErrUnexpectedEOF},
		"one that isn't answered": {sent: append(message("bad"), message("b?")...), err: errQuery},
		"to another port":         {local: "10.99.0.53:80", says: "not a captured query: it was sent to 10.99.0.53:80"},
	} {
		if c.local == "" {
			c.local = "10.99.0.53:53"
		}
		client, server := pair(t)
		ended := make(chan error, 1)
		go func() {
			ended <- bare(t).resolvers.answerConn(t.Context(), at{server, c.local})
			_ = server.Close()
		}()
		_, err := client.Write(c.sent)
		testhost.Must(t, err)
		_ = client.CloseWrite() // fails where the server has closed the connection already
		got := make([]byte, len(c.reply))
		if _, err := io.ReadFull(client, got); err != nil || string(got) != string(c.reply) {
			t.Errorf("%s: answered %.60q, %v; want %.60q", name, got, err, c.reply)
		}
		_ = client.Close()
		err = <-ended
		if c.says != "" && (err == nil || err.Error() != c.says) || c.says == "" && !errors.Is(err, c.err) {
			t.Errorf("%s: ended with %v, want %v%s", name, err, c.err, c.says)
		}
	}
}

// TestAnswerTCP over the loopback interface of the test's own host, where port
// 53 is free.
func TestAnswerTCP(t *testing.T) {
	if !alone(t) {
		return
	}
	testhost.VerifyNone(t)
	ln, err := listen.Plain(t.Context(), netip.MustParseAddrPort("127.0.0.53:53"))
	testhost.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bare(t).resolvers.answerTCP(ctx, ln) }()
	ask := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		testhost.Must(t, err)
		_, err = conn.Write(message("a?"))
		testhost.Must(t, err)
		return conn
	}
	want := string(message("tcp 127.0.0.53:53 a?"))
	var open []net.Conn
	for range maxQueries { // each keeps its place until its connection ends
		conn := ask()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Fatalf("answered %q, %v", got, err)
		}
		open = append(open, conn)
	}
	if _, err := ask().Read(make([]byte, 1)); err == nil {
		t.Errorf("connection %d is answered", maxQueries+1)
	}
	for _, conn := range open {
		testhost.Must(t, conn.Close())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAnswerUDP: the answer comes from the address that was asked.
func TestAnswerUDP(t *testing.T) {
	if !alone(t) {
		return
	}
	testhost.VerifyNone(t)
	udp, err := listen.NewTransparentUDP(t.Context(), false)
	testhost.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bare(t).resolvers.answerUDP(ctx, udp) }()
	client, err := net.Dial("udp", udp.LocalAddr().String()) // takes answers of that address only
	testhost.Must(t, err)
	for _, query := range []string{"bad", "a?"} { // the first one has no answer, and stops nothing
		_, err := client.Write([]byte(query))
		testhost.Must(t, err)
	}
	got := make([]byte, maxDatagram)
	n, err := client.Read(got)
	if want := "udp " + udp.LocalAddr().String() + " a?"; err != nil || string(got[:n]) != want {
		t.Errorf("answered %q, %v; want %q", got[:n], err, want)
	}
	testhost.Must(t, client.Close())
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
