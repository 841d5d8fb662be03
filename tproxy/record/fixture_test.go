// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
	_ "unsafe" // for linkname

	"golang.org/x/sync/errgroup"

	"tacit/internal/testhost"
)

const deadline = time.Minute

// What crypto/tls offers and prefers: no configuration changes it in TLS 1.3.
//
//go:linkname suites crypto/tls.defaultCipherSuitesTLS13
var suites []uint16

//go:linkname suitesNoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesNoAES []uint16

// only makes crypto/tls agree on one suite.
func only(t testing.TB, id uint16) {
	t.Helper()
	was, wasNoAES := suites, suitesNoAES
	suites, suitesNoAES = []uint16{id}, []uint16{id}
	t.Cleanup(func() { suites, suitesNoAES = was, wasNoAES })
}

// ids are the suites of TLS 1.3.
func ids() []uint16 {
	return []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
}

// forSuites runs a test for each suite.
func forSuites(t *testing.T, f func(t *testing.T, id uint16)) {
	for _, id := range ids() {
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) {
			only(t, id)
			f(t, id)
		})
	}
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testhost.Must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "record"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	testhost.Must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// config is for both ends, each of which shows a certificate, as nodes do.
func config(t testing.TB) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true, InsecureSkipVerify: true,
		ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{certificate(t)}}
}

// tcp is both ends of a TCP connection.
func tcp(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	defer ln.Close()
	near, err = net.Dial("tcp", ln.Addr().String())
	testhost.Must(t, err)
	far, err = ln.Accept()
	testhost.Must(t, err)
	for _, c := range []net.Conn{near, far} {
		testhost.Must(t, c.SetDeadline(time.Now().Add(deadline)))
		t.Cleanup(func() { _ = c.Close() })
	}
	return near, far
}

// roles are the ends that Layer can be at.
func roles() map[string]bool { return map[string]bool{"client": true, "server": false} }

// ours begins TLS at one end for Take.
func ours(t testing.TB, conn net.Conn, client bool, cfg *tls.Config) *tls.Conn {
	t.Helper()
	begin := Server
	if client {
		begin = Client
	}
	c, err := begin(conn, cfg)
	testhost.Must(t, err)
	return c
}

// theirs begins TLS as everybody does.
func theirs(conn net.Conn, client bool, cfg *tls.Config) *tls.Conn {
	if client {
		return tls.Client(conn, cfg)
	}
	return tls.Server(conn, cfg)
}

func handshakes(t testing.TB, conns ...*tls.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var g errgroup.Group
	for _, c := range conns {
		g.Go(func() error { return c.HandshakeContext(ctx) })
	}
	testhost.Must(t, g.Wait())
}

// take takes a connection over.
func take(t testing.TB, c *tls.Conn) *stream {
	t.Helper()
	l, conn, err := Take(c)
	testhost.Must(t, err)
	return &stream{Layer: l, conn: conn, chunk: 1 << 16, size: MaxPlaintext}
}

// meet is a connection between Layer and crypto/tls.
func meet(t testing.TB, client bool) (*stream, *tls.Conn) {
	t.Helper()
	cfg := config(t)
	near, far := tcp(t)
	c, peer := ours(t, near, client, cfg), theirs(far, !client, cfg)
	handshakes(t, c, peer)
	return take(t, c), peer
}

// stream makes of a Layer a connection that blocks: what an event loop does otherwise.
// It can't be read and written at the same time.
type stream struct {
	*Layer
	conn  net.Conn
	chunk int // bytes read at once
	size  int // plaintext of each record written
	buf   []byte
}

func (s *stream) Write(data []byte) (int, error) {
	var out []byte
	for part := range chunks(data, s.size) {
		if s.NeedUpdate() {
			buf := make([]byte, UpdateSize)
			if _, err := s.Update(buf); err != nil {
				return 0, err
			}
			out = append(out, buf...)
		}
		buf := make([]byte, HeaderSize+len(part)+TailSize)
		n, err := s.Seal(buf, copy(buf[HeaderSize:], part))
		if err != nil {
			return 0, err
		}
		out = append(out, buf[:n]...)
	}
	_, err := s.conn.Write(out)
	return len(data), err
}

func chunks(b []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// next opens the next record.
func (s *stream) next() ([]byte, error) {
	for {
		n, err := Length(s.buf)
		if err != nil {
			return nil, err
		}
		if n > 0 && len(s.buf) >= n {
			record := s.buf[:n:n]
			s.buf = s.buf[n:]
			return s.Open(record)
		}
		more := make([]byte, s.chunk)
		if n, err = s.conn.Read(more); err != nil {
			return nil, err
		}
		s.buf = append(s.buf, more[:n]...)
	}
}

// read reads until want bytes of data are there.
func (s *stream) read(want int) ([]byte, error) {
	var all []byte
	for len(all) < want {
		data, err := s.next()
		if err != nil {
			return all, err
		}
		all = append(all, data...)
	}
	return all, nil
}

// noise is data that compress badly, always the same.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes %.32x…, not %d bytes %.32x…", what, len(got), got, len(want), want)
	}
}

// between is a layer for each end of a connection that has no connection.
func between(t testing.TB, id uint16) (a, b *Layer) {
	t.Helper()
	s, err := suiteOf(id)
	testhost.Must(t, err)
	secret := func(b byte) []byte { return bytes.Repeat([]byte{b}, s.hash().Size()) }
	a, err = newLayer(id, secret(1), secret(2))
	testhost.Must(t, err)
	b, err = newLayer(id, secret(2), secret(1))
	testhost.Must(t, err)
	return a, b
}

// seal is a record of any content.
func seal(t testing.TB, s *Sealer, typ byte, content ...byte) []byte {
	t.Helper()
	buf := make([]byte, HeaderSize+len(content)+TailSize)
	n, err := s.seal(buf, copy(buf[HeaderSize:], content), typ)
	testhost.Must(t, err)
	return buf[:n]
}
