// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sync/errgroup"

	"tacit/internal/testhost"
)

// TestInterop: crypto/tls at the other end, whichever end that is, in every suite.
func TestInterop(t *testing.T) {
	forSuites(t, func(t *testing.T, id uint16) {
		for name, client := range roles() {
			t.Run(name, func(t *testing.T) {
				s, peer := meet(t, client)
				if got := peer.ConnectionState().CipherSuite; got != id {
					t.Fatalf("the suite is %s", tls.CipherSuiteName(got))
				}
				sizes(t, s, peer)
				bulk(t, s, peer)
				bytewise(t, s, peer)
				closes(t, s, peer)
			})
		}
	})
}

// echo has the peer read what s writes, and return it.
func echo(t *testing.T, s *stream, peer *tls.Conn, data []byte) {
	t.Helper()
	var g errgroup.Group
	g.Go(func() error {
		got := make([]byte, len(data))
		if _, err := io.ReadFull(peer, got); err != nil {
			return err
		}
		_, err := peer.Write(got)
		return err
	})
	_, err := s.Write(data)
	testhost.Must(t, err)
	got, err := s.read(len(data))
	testhost.Must(t, errors.Join(err, g.Wait()))
	same(t, "echo", got, data)
}

// sizes sends records of one byte to the largest.
func sizes(t *testing.T, s *stream, peer *tls.Conn) {
	t.Helper()
	for _, n := range []int{1, 2, 15, 16, 17, 255, 256, 4095, 4096, MaxPlaintext - 1, MaxPlaintext} {
		echo(t, s, peer, noise(n))
	}
}

// bulk sends 2 MiB each way at the same time, in records of many sizes.
func bulk(t *testing.T, s *stream, peer *tls.Conn) {
	t.Helper()
	data := noise(2 << 20)
	out := &stream{Layer: s.Layer, conn: s.conn, size: 5000}
	var g errgroup.Group
	g.Go(func() error { _, err := peer.Write(data); return err })
	g.Go(func() error { _, err := out.Write(data); return err })
	g.Go(func() error {
		got := make([]byte, len(data))
		_, err := io.ReadFull(peer, got)
		if err == nil && string(got) != string(data) {
			err = errors.New("the peer has read other data")
		}
		return err
	})
	got, err := s.read(len(data))
	testhost.Must(t, errors.Join(err, g.Wait()))
	same(t, "bulk", got, data)
}

// bytewise reads records that arrive byte by byte.
func bytewise(t *testing.T, s *stream, peer *tls.Conn) {
	t.Helper()
	s.chunk = 1
	defer func() { s.chunk = 1 << 16 }()
	echo(t, s, peer, noise(3000))
}

// closes ends both directions.
func closes(t *testing.T, s *stream, peer *tls.Conn) {
	t.Helper()
	testhost.Must(t, peer.CloseWrite())
	if _, err := s.next(); err != io.EOF {
		t.Errorf("the peer's close_notify: %v", err)
	}
	buf := make([]byte, EndSize)
	_, err := s.End(buf, nil)
	testhost.Must(t, err)
	_, err = s.conn.Write(buf)
	testhost.Must(t, err)
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("our close_notify: %d bytes, %v", n, err)
	}
}

// TestInteropUpdates: both ends change keys while data go both ways: we by the
// limit, crypto/tls because we ask for it.
func TestInteropUpdates(t *testing.T) {
	forSuites(t, func(t *testing.T, _ uint16) {
		for name, client := range roles() {
			t.Run(name, func(t *testing.T) {
				s, peer := meet(t, client)
				s.Sealer.limit, s.size = 3, 100
				echo(t, s, peer, noise(10_000))
				if s.Sealer.keys.seq > 3 {
					t.Errorf("%d records under one key", s.Sealer.keys.seq)
				}
				for range 3 {
					buf := make([]byte, UpdateSize)
					_, err := s.Sealer.update(buf, updateRequested)
					testhost.Must(t, err)
					_, err = s.conn.Write(buf)
					testhost.Must(t, err)
					echo(t, s, peer, noise(1000))
				}
				if left := updateBurst - s.updates; left != 3 {
					t.Errorf("crypto/tls has changed its key %d times", left)
				}
			})
		}
	})
}

// eager adds to the last flight of a handshake a record of data: what a peer may
// send at once.
type eager struct {
	net.Conn
	secrets secrets
	suite   uint16
	client  bool
	done    bool
}

func (e *eager) Write(b []byte) (int, error) {
	if !e.secrets.complete() || e.done {
		return e.Conn.Write(b)
	}
	e.done = true
	secret := e.secrets.server
	if e.client {
		secret = e.secrets.client
	}
	l, err := newLayer(e.suite, secret, secret)
	if err != nil {
		return 0, err
	}
	early := make([]byte, 100)
	n, err := l.Seal(early, copy(early[HeaderSize:], "early"))
	if err != nil {
		return 0, err
	}
	_, err = e.Conn.Write(append(b[:len(b):len(b)], early[:n]...))
	return len(b), err
}

// TestInteropEarlyData: data that the peer sends together with its last flight are
// not lost, and are no part of what crypto/tls has read.
func TestInteropEarlyData(t *testing.T) {
	forSuites(t, func(t *testing.T, id uint16) {
		for name, client := range roles() {
			t.Run(name, func(t *testing.T) {
				near, far := tcp(t)
				cfg := config(t)
				e := &eager{Conn: far, suite: id, client: !client}
				hasty := cfg.Clone()
				hasty.KeyLogWriter = &e.secrets
				c := ours(t, near, client, cfg)
				handshakes(t, c, theirs(e, !client, hasty))
				s := take(t, c)
				data, err := s.next()
				testhost.Must(t, err)
				same(t, "early data", data, []byte("early"))
			})
		}
	})
}

// TestInteropAlerts: an error of the peer has the name of its alert, and the peer
// learns ours.
func TestInteropAlerts(t *testing.T) {
	t.Run("theirs", func(t *testing.T) {
		near, far := tcp(t)
		cfg := config(t)
		strict := cfg.Clone()
		strict.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not you") }
		c, peer := ours(t, near, true, cfg), theirs(far, false, strict)
		var g errgroup.Group
		g.Go(func() error {
			if peer.Handshake() == nil {
				return errors.New("the peer accepts")
			}
			return nil
		})
		handshakes(t, c)
		s := take(t, c)
		_, err := s.next()
		var alert tls.AlertError
		if !errors.As(err, &alert) || err.Error() != "the peer ended the connection: tls: bad certificate" {
			t.Errorf("the error is %v", err)
		}
		testhost.Must(t, g.Wait())
	})
	for name, c := range map[string]struct {
		cause error
		says  string
	}{
		"violation": {&Violation{Alert: alertBadRecordMAC}, "remote error: tls: bad record MAC"},
		"wrapped":   {fmt.Errorf("lane: %w", &Violation{Alert: alertRecordOverflow}), "remote error: tls: record overflow"},
		"other":     {errors.New("no memory"), "remote error: tls: internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			s, peer := meet(t, true)
			buf := make([]byte, EndSize)
			_, err := s.End(buf, c.cause)
			testhost.Must(t, err)
			_, err = s.conn.Write(buf)
			testhost.Must(t, err)
			if _, err := peer.Read(make([]byte, 1)); err == nil || err.Error() != c.says {
				t.Errorf("the peer's error is %v", err)
			}
		})
	}
}
