// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// Layer is both directions of a connection. It isn't safe for concurrent use.
type Layer struct {
	Sealer
	Opener
}

// Take takes a connection over from crypto/tls, after the handshake and before
// anything else was written: the layer, and the connection that Client or Server
// was given, which holds whatever the peer has sent after its handshake. The
// tls.Conn keeps its state, but can't be read or written any more; its Close closes
// the connection without an alert, and says so by an error.
func Take(conn *tls.Conn) (*Layer, net.Conn, error) {
	t, ok := conn.NetConn().(*Transport)
	if !ok {
		return nil, nil, errors.New("the connection wasn't made by record.Client or record.Server")
	}
	cs := conn.ConnectionState()
	if err := t.ready(cs); err != nil {
		return nil, nil, err
	}
	if t.taken.Swap(true) {
		return nil, nil, errTaken
	}
	out, in := t.secrets.server, t.secrets.client
	if t.client {
		out, in = in, out
	}
	*t.secrets = secrets{}
	l, err := newLayer(cs.CipherSuite, out, in)
	return l, t.Conn, err
}

// ready says whether both directions are at the first record under the traffic
// secrets. Each end writes its last flight at once; whatever it writes afterwards
// takes the first numbers.
func (t *Transport) ready(cs tls.ConnectionState) error {
	switch {
	case t.taken.Load():
		return errTaken
	case !cs.HandshakeComplete:
		return errors.New("the handshake isn't complete")
	case cs.Version != tls.VersionTLS13:
		return fmt.Errorf("the connection is %s", tls.VersionName(cs.Version))
	case !t.secrets.complete():
		return errors.New("the traffic secrets are unknown: the handshake had another configuration")
	case t.flights.Load() != 1:
		return errors.New("crypto/tls has written data already")
	}
	return nil
}

// newLayer owns the secrets from then on.
func newLayer(id uint16, out, in []byte) (*Layer, error) {
	s, err := suiteOf(id)
	if err != nil {
		return nil, err
	}
	sealing, err := newKeys(s, out)
	if err != nil {
		return nil, err
	}
	opening, err := newKeys(s, in)
	if err != nil {
		return nil, err
	}
	l := &Layer{Sealer: Sealer{keys: sealing, limit: keyLimit}}
	l.Opener = Opener{keys: opening, out: &l.Sealer, updates: updateBurst}
	return l, nil
}
