// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
)

// Transport is the connection below a tls.Conn that Client or Server has made. A
// read gives at most the rest of the present record, so that crypto/tls has nothing
// of what follows the handshake. It is as safe for concurrent use as the
// connection that it wraps, until Take.
type Transport struct {
	net.Conn
	client  bool
	secrets *secrets     // a pointer, so that printing shows an address
	edge    edge         // the reader's
	flights atomic.Int32 // written since the secrets are known
	taken   atomic.Bool
}

// Client is tls.Client for a connection that Take can take over. It refuses a
// configuration that allows what this package doesn't have, or that would put
// secrets elsewhere.
func Client(conn net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	t := &Transport{Conn: conn, client: true, secrets: &secrets{}}
	cfg, err := t.watch(cfg)
	if err != nil {
		return nil, err
	}
	return tls.Client(t, cfg), nil
}

// Server is tls.Server for a connection that Take can take over; see Client. If
// GetConfigForClient returns a configuration of its own, Take refuses.
func Server(conn net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	t := &Transport{Conn: conn, secrets: &secrets{}}
	cfg, err := t.watch(cfg)
	if err != nil {
		return nil, err
	}
	return tls.Server(t, cfg), nil
}

// watch is a copy of a configuration whose key log is in memory, and this
// connection's alone.
func (t *Transport) watch(cfg *tls.Config) (*tls.Config, error) {
	switch {
	case cfg.KeyLogWriter != nil:
		return nil, errors.New("the TLS configuration has a key log: secrets would leave this process's memory")
	case cfg.MinVersion < tls.VersionTLS13:
		return nil, errors.New("the TLS configuration allows versions before 1.3")
	case !cfg.SessionTicketsDisabled:
		return nil, errors.New("the TLS configuration allows session tickets")
	}
	cfg = cfg.Clone()
	cfg.KeyLogWriter = t.secrets
	return cfg, nil
}

var errTaken = errors.New("the record layer of this connection has been taken over")

func (t *Transport) Read(b []byte) (int, error) {
	if t.taken.Load() {
		return 0, errTaken
	}
	n, err := t.Conn.Read(b[:min(len(b), t.edge.ahead())])
	t.edge.pass(b[:n])
	return n, err
}

// Write refuses what crypto/tls would write after Take, such as its close_notify:
// a record number would be used twice.
func (t *Transport) Write(b []byte) (int, error) {
	if t.taken.Load() {
		return 0, errTaken
	}
	if t.secrets.complete() {
		t.flights.Add(1)
	}
	return t.Conn.Write(b)
}

// edge finds the end of the present record of a stream that is never read beyond it.
type edge struct {
	header [HeaderSize]byte
	have   int // bytes of header
	rest   int // bytes to come after the header
}

// ahead is how many bytes may be read: never 0.
func (e *edge) ahead() int {
	if e.rest > 0 {
		return e.rest
	}
	return HeaderSize - e.have
}

// pass takes at most as many bytes as ahead allows.
func (e *edge) pass(b []byte) {
	if e.rest > 0 {
		e.rest -= len(b)
		return
	}
	e.have += copy(e.header[e.have:], b)
	if e.have == HeaderSize {
		e.have, e.rest = 0, int(binary.BigEndian.Uint16(e.header[3:]))
	}
}
