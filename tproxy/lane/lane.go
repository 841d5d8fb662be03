// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/socket"
	"tacit/tproxy/stall"
)

// lane is one TLS connection between two nodes. It carries one stream at a
// time; only the end that dialled it opens streams. One goroutine at a time
// owns it: that one reads, and opens or accepts streams. Any may send frames.
type lane struct {
	conn    *tls.Conn
	tcp     *stall.Conn
	raw     syscall.RawConn
	cfg     *Config
	blocks  *Blocks
	peer    identity.ID
	dialled bool
	channel identity.Channel
	since   time.Time
	release func(*lane) // called when a stream is over: the lane is free for the next one

	// Used by the owner only.
	last uint32 // number of the newest stream
	kept frame  // read and put back for the next read; its block is nil if there is none

	mu       sync.Mutex // guards what follows
	retiring bool       // takes no further streams
	broken   bool
	why      policy.Reason // for which it was aborted
	use
	delivery
	trust
}

// frame is a frame that was read: a header, and a block that holds the payload.
type frame struct {
	header
	block *Block
}

// use says what a lane carries.
type use struct {
	busy    bool
	here    identity.Name // this node's service of the current stream
	there   identity.Name // the peer's
	was     identity.Name // the peer's of the stream before
	streams int           // carried so far, the current one included
	idleAt  time.Time     // when the last stream ended
}

// delivery says what the peer's kernel has acknowledged: see silent.
type delivery struct {
	wrote   bool      // something was sent since everything was last found acknowledged
	waiting time.Time // since when something has been unacknowledged; zero: nothing is
}

// newLane makes a lane of a connection whose handshake is done. leaf is this
// node's certificate that the peer has seen.
func newLane(cfg *Config, conn *tls.Conn, leaf *x509.Certificate) (*lane, error) {
	tcp, ok := conn.NetConn().(*stall.Conn)
	if !ok {
		return nil, errors.New("a lane must be TLS over watched TCP")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	cs := conn.ConnectionState()
	peer, _, err := identity.PeerID(cs)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l := &lane{conn: conn, tcp: tcp, raw: raw, cfg: cfg, blocks: cfg.Blocks, peer: peer, since: now, use: use{idleAt: now},
		trust: newTrust(leaf, cs.PeerCertificates, now, cfg.Identities.Bundle())}
	return l, prepare(tcp.TCPConn)
}

// prepare sets keep-alive, by which the kernel notices a dead peer while nothing
// is sent. For the time in which something is, TCP_USER_TIMEOUT would be simpler
// than silent, but it also ends a connection whose reader is only slow.
func prepare(conn *net.TCPConn) error {
	return conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3})
}

// bind records which end dialled, and derives the channel that proofs on this
// lane cover.
func (l *lane) bind(dialled bool) (err error) {
	l.dialled = dialled
	dialer, acceptor := l.peer, l.cfg.Node
	if dialled {
		dialer, acceptor = acceptor, dialer
	}
	l.channel, err = identity.NewChannel(l.conn.ConnectionState(), dialer, acceptor)
	return err
}

// readFrame reads one frame of any kind. The caller returns the block to the pool.
func (l *lane) readFrame() (header, *Block, error) {
	if f := l.kept; f.block != nil {
		l.kept = frame{}
		return f.header, f.block, nil
	}
	var raw [headerSize]byte
	n, err := l.conn.Read(raw[:])
	if n == 0 {
		return header{}, nil, l.readError(err)
	}
	l.tcp.Owe(true)
	defer l.tcp.Owe(false)
	if _, err = io.ReadFull(l.conn, raw[n:]); err != nil {
		return header{}, nil, l.fault(err)
	}
	h, err := parseHeader(raw)
	if err != nil {
		return header{}, nil, l.breach("%v", err)
	}
	b := l.blocks.Get()
	if _, err = io.ReadFull(l.conn, b.Payload()[:h.length]); err != nil {
		l.blocks.Put(b)
		return header{}, nil, l.fault(err)
	}
	return h, b, nil
}

// readError turns an error of a read between two frames into the lane's. A deadline
// only wakes the reader there; within a frame it breaks the lane.
func (l *lane) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrWoken
	}
	return l.fault(err)
}

// fault aborts the lane and returns the error for its user.
func (l *lane) fault(err error) error {
	l.abort(policy.ReasonLane)
	l.mu.Lock()
	defer l.mu.Unlock()
	return &policy.Refusal{Reason: l.why, Detail: err.Error()}
}

// next reads the next frame of a stream, and handles the proofs before it.
func (l *lane) next() (header, *Block, error) {
	for {
		h, b, err := l.readFrame()
		if err != nil || h.kind != kindProve {
			return h, b, err
		}
		_, err = l.learn(b.Payload()[:h.length])
		l.blocks.Put(b)
		if err != nil {
			return header{}, nil, err
		}
	}
}

// keep puts a frame back for the next read.
func (l *lane) keep(h header, b *Block) { l.kept = frame{h, b} }

// send writes complete frames with one write.
func (l *lane) send(frames []byte) error {
	l.mu.Lock()
	l.wrote = true
	l.mu.Unlock()
	if _, err := l.conn.Write(frames); err != nil {
		return l.fault(err)
	}
	return nil
}

// abort ends the lane at once, and its stream with it. The first reason stays.
func (l *lane) abort(r policy.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.broken {
		l.broken, l.why = true, r
		socket.Reset(l.tcp.TCPConn)
	}
}

// broke says whether an error means that the lane broke, rather than that the
// peer refused.
func (l *lane) broke(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken && !errors.Is(err, &policy.Refusal{Reason: policy.ReasonProtocol})
}

// done says whether the lane takes no further stream.
func (l *lane) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken || l.retiring
}

// retire makes the lane end after its current stream.
func (l *lane) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retiring = true
	if !l.busy {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// occupy begins a stream between a service of this node and one of the peer's.
func (l *lane) occupy(here, there identity.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy, l.here, l.there, l.was = true, here, there, l.there
	l.streams++
}

// free ends a stream, and says whether the lane may carry another.
func (l *lane) free() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy, l.idleAt = false, time.Now()
	return !l.broken && !l.retiring && l.last < math.MaxUint32
}

// good says whether an idle lane may carry a new stream.
func (l *lane) good(now time.Time) bool {
	l.mu.Lock()
	ok := !l.broken && !l.retiring && now.Before(l.staleAt()) && max(l.seen.n, l.shown.n) < maxProofs
	l.mu.Unlock()
	return ok && socket.Quiet(l.raw)
}

func (l *lane) info() Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr, _ := netip.ParseAddrPort(l.tcp.RemoteAddr().String())
	info := Info{Peer: l.peer, Dialled: l.dialled, Addr: addr, Since: l.since, Streams: l.streams, Busy: l.busy, Ends: l.endsAt()}
	for id, p := range l.theirs {
		if p.bad == nil {
			info.Proven = append(info.Proven, Proven{id, p.keys[0], p.to})
		}
	}
	return info
}
