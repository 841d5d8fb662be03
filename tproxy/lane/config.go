// SPDX-License-Identifier: Apache-2.0

// Package lane carries streams between nodes. A lane is one mutual TLS 1.3
// connection; it carries one stream at a time and is kept for the next. Services
// are proven on it, so that one handshake serves all services of two nodes. The
// package must not know where streams come from or go to, nor decide on them:
// its user opens streams, and is handed those that peers open.
package lane

import (
	"errors"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"tacit/identity"
)

// UpkeepPeriod is the time between two calls of Set.Upkeep.
const UpkeepPeriod = 500 * time.Millisecond

// ResetTimeout is how long a peer has to answer RESET; then the lane is aborted.
const ResetTimeout = time.Second

const (
	dialTimeout  = 5 * time.Second         // for TCP and TLS of a lane, and for the answer to OPEN
	expiryGrace  = 5 * time.Second         // from the end of a lane's last proven node certificate to the lane's end
	frameTimeout = 4 * time.Second         // without a byte in the middle of a frame; together with UpkeepPeriod under 5 s
	silenceLimit = 3500 * time.Millisecond // without an acknowledgement; together with UpkeepPeriod under 5 s
)

// ErrWoken says that Wake ended a read: there is nothing more to wait for.
var ErrWoken = errors.New("nothing more to wait for")

// Identities are the certificates in use; they can change at any time.
type Identities interface {
	identity.Source
	// ServiceSVID is the certificate that proves a service of this node on lanes.
	ServiceSVID(identity.Name) (*identity.SVID, error)
}

// Config is what lanes need.
type Config struct {
	Node       identity.ID // this node
	Identities Identities
	Check      identity.PeerCheck // further condition on certificates of peers and their services; may be nil
	Log        *slog.Logger
	Blocks     *Blocks // shared with whatever the streams are copied from and to
	// Accept carries a stream that a peer has opened. It returns when the stream
	// is over, having called Refuse or Close; then its lane takes the next one.
	Accept func(*Arrival)
	// Dialling is asked before a lane connects; see net.Dialer.Control. It may be nil.
	Dialling func(network, address string, c syscall.RawConn) error
	Limits
}

// Limits bound the lanes. A limit of zero means its default.
type Limits struct {
	IdleLanes   int           // warm lanes kept per peer; default 64
	IdleTimeout time.Duration // how long a warm lane is kept; default 90 s. The peer keeps its end twice as long.
	Dials       int           // lanes being dialled at once per peer; default 16
	PeerLanes   int           // lanes accepted from one peer; default 12,000
}

func (l Limits) withDefaults() Limits {
	l.IdleLanes = orDefault(l.IdleLanes, 64)
	l.IdleTimeout = orDefault(l.IdleTimeout, 90*time.Second)
	l.Dials = orDefault(l.Dials, 16)
	l.PeerLanes = orDefault(l.PeerLanes, 12_000)
	return l
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Peer is a node and the address of its lane port.
type Peer struct {
	Node identity.Name
	Addr netip.AddrPort
}

// Proven is a service that a peer has proven.
type Proven struct {
	ID   identity.ID
	Key  identity.KeyID // of its certificate
	Ends time.Time      // when the certificate does
}

// Info is one lane.
type Info struct {
	Peer    identity.ID
	Dialled bool           // by this node, rather than accepted
	Addr    netip.AddrPort // the other end's
	Proven  []Proven       // what the peer has proven on it
	Since   time.Time
	Streams int // carried so far, the current one included
	Busy    bool
	Ends    time.Time // when the lane is cut unless the peer renews its proof
}
