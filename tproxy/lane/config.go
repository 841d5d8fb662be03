// SPDX-License-Identifier: Apache-2.0

// Package lane carries streams between nodes. A lane is one mutual TLS 1.3
// connection that carries many streams at once; services are proven on it, so that
// one handshake serves all services of two nodes (docs/lane-protocol.md). Each lane
// belongs to one event loop. The package must not know where streams come from or go
// to, nor decide on them: its user opens streams, and is handed those that peers open.
package lane

import (
	"cmp"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/pulse"
	"tacit/tproxy/loop"
)

// UpkeepPeriod is the time between two calls of Set.Upkeep.
const UpkeepPeriod = pulse.Round

const (
	dialTimeout  = 5 * time.Second // for TCP and TLS of a lane, and for the answer to OPEN
	frameTimeout = 4 * time.Second // without a byte in the middle of a record; together with UpkeepPeriod under 5 s
)

// Identities are the certificates in use; they can change at any time.
type Identities interface {
	identity.Source
	// ServiceSVID is the certificate that proves a service of this node on lanes.
	ServiceSVID(identity.Name) (*identity.SVID, error)
}

// Events is what lanes need of an event loop: *loop.Loop.
type Events interface {
	Do(func()) bool
	Queue(loop.Runner)
	AtEnd(loop.Flusher)
	Watch(fd int, h loop.Handler) error
	Forget(fd int, closing bool)
}

// inputSize is how much one read takes from a lane.
const inputSize = 256 << 10

// Loop is an event loop, and the buffers that its lanes share: a lane uses them only
// while it is handled, so that idle lanes hold none.
type Loop struct {
	Events
	input   [][]byte // one
	parts   [][]byte // one, of what is being written
	buffers frame.Buffers
}

// NewLoop gives an event loop its buffers.
func NewLoop(e Events) *Loop {
	return &Loop{Events: e, input: [][]byte{make([]byte, inputSize)}, parts: make([][]byte, 1)}
}

// Config is what lanes need.
type Config struct {
	Node       identity.ID // this node
	Identities Identities
	Check      identity.PeerCheck // further condition on certificates of peers and their services; may be nil
	Log        *slog.Logger
	Loops      []*Loop // one at least
	Budget     *credit.Budget
	Share      func() int // how many streams one peer may have open at present, besides PeerStreams
	// Accept is called in a goroutine for each stream that a peer opens, for a few of one
	// peer's at once. It calls Attach or Refuse once.
	Accept func(*Arrival)
	// Dialling is asked before a lane connects; see net.Dialer.Control. It may be nil.
	Dialling func(network, address string, c syscall.RawConn) error
	Limits
}

// Limits bound the lanes. A limit of zero means its default.
type Limits struct {
	IdleTimeout time.Duration // how long a lane without streams is kept; default 90 s. The peer keeps its end twice as long.
	PeerLanes   int           // lanes accepted from one peer; default 64
	PeerStreams int           // streams that one peer has open here; default 12,000
}

func (l Limits) withDefaults() Limits {
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 90*time.Second)
	l.PeerLanes = cmp.Or(l.PeerLanes, 64)
	l.PeerStreams = cmp.Or(l.PeerStreams, 12_000)
	return l
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
	Streams int // carried so far, the present ones included
	Live    int
	Ends    time.Time // when the lane is cut unless the peer renews its proof
}

// User is told of a stream, on its loop. No method may block.
type User interface {
	// Opened comes first: the stream may be used from now on.
	Opened(*Stream)
	// Deliver brings bytes of the peer, which are valid during the call only. The user
	// calls Took for those that it has got rid of, once it has.
	Deliver(parts [][]byte)
	// End is the peer's FIN.
	End()
	// Room says that Areas may give room again, after it gave none.
	Room()
	// Lost says that the stream is over; nothing comes after it. It may come without Opened.
	Lost(*policy.Refusal)
}
