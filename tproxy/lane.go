// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// lane is one TLS connection between two nodes. It carries one stream at a
// time; only the end that dialled it opens streams. One goroutine at a time
// owns it: it reads, and opens or takes streams. Frames may be sent from any.
type lane struct {
	conn    *tls.Conn
	tcp     *net.TCPConn
	raw     syscall.RawConn
	cfg     *Config
	blocks  *blocks
	peer    identity.ID
	dialled bool
	channel identity.Channel
	since   time.Time
	release func(*lane) // takes the lane back when a stream is over

	// The owner's.
	last  uint32 // newest stream
	kept  header // a frame read too far, with kepts
	kepts *block

	mu       sync.Mutex
	busy     bool
	retiring bool // no further streams
	broken   bool
	why      policy.Reason // why it was aborted
	streams  int
	idleAt   time.Time
	wrote    bool      // since everything was last found acknowledged
	waiting  time.Time // since when something has been found unacknowledged
	trust
}

// newLane takes over a connection whose handshake is done. leaf is this node's
// own certificate as the peer saw it.
func newLane(cfg *Config, blocks *blocks, conn *tls.Conn, leaf *x509.Certificate) (*lane, error) {
	tcp, ok := conn.NetConn().(*net.TCPConn)
	if !ok {
		return nil, errors.New("a lane must be TLS over plain TCP")
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
	l := &lane{conn: conn, tcp: tcp, raw: raw, cfg: cfg, blocks: blocks, peer: peer, since: now, idleAt: now,
		trust: newTrust(leaf, cs.PeerCertificates, now, cfg.Identities.Bundle())}
	return l, prepareLane(tcp)
}

// bind fixes which end dialled, and with it what proofs on this lane are over.
func (l *lane) bind(dialled bool) (err error) {
	l.dialled = dialled
	dialer, acceptor := l.peer, l.cfg.Node
	if dialled {
		dialer, acceptor = acceptor, dialer
	}
	l.channel, err = identity.NewChannel(l.conn.ConnectionState(), dialer, acceptor)
	return err
}

// frame reads one frame of any kind. The block is the caller's to give back.
func (l *lane) frame() (header, *block, error) {
	if l.kepts != nil {
		h, b := l.kept, l.kepts
		l.kepts = nil
		return h, b, nil
	}
	var raw [headerSize]byte
	n, err := io.ReadFull(l.conn, raw[:])
	if err != nil {
		return header{}, nil, l.readError(err, n)
	}
	h, err := parseHeader(raw)
	if err != nil {
		return header{}, nil, &policy.Refusal{Reason: policy.ReasonProtocol, Detail: err.Error()}
	}
	b := l.blocks.get()
	if n, err = io.ReadFull(l.conn, b.payload()[:h.length]); err != nil {
		l.blocks.put(b)
		return header{}, nil, l.readError(err, headerSize+n)
	}
	return h, b, nil
}

// readError sorts out why reading stopped. Between frames a deadline only
// wakes; within one it breaks the lane.
func (l *lane) readError(err error, taken int) error {
	if taken == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return errWoken
	}
	return l.fault(err)
}

// fault breaks the lane and returns the error for whoever used it.
func (l *lane) fault(err error) error {
	l.abort(policy.ReasonLane)
	l.mu.Lock()
	defer l.mu.Unlock()
	return &policy.Refusal{Reason: l.why, Detail: err.Error()}
}

// next reads the next frame of a stream and takes in proofs before it.
func (l *lane) next() (header, *block, error) {
	for {
		h, b, err := l.frame()
		if err != nil || h.kind != kindProve {
			return h, b, err
		}
		_, err = l.learn(b.payload()[:h.length])
		l.blocks.put(b)
		if err != nil {
			return header{}, nil, err
		}
	}
}

// keep puts a frame back for the next read.
func (l *lane) keep(h header, b *block) { l.kept, l.kepts = h, b }

// send writes whole frames in one piece.
func (l *lane) send(frames []byte) error {
	l.mu.Lock()
	l.wrote = true
	l.mu.Unlock()
	if _, err := l.conn.Write(frames); err != nil {
		return l.fault(err)
	}
	return nil
}

// abort ends the lane at once, whatever is under way. The first reason stays.
func (l *lane) abort(r policy.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.broken {
		l.broken, l.why = true, r
		resetConn(l.tcp)
	}
}

// broke says whether an error is the lane's rather than a refusal by the peer.
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

// retire lets the lane's stream end and takes no further one.
func (l *lane) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retiring = true
	if !l.busy {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// occupy begins a stream.
func (l *lane) occupy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = true
	l.streams++
}

// free ends one, and says whether the lane may carry another.
func (l *lane) free() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy, l.idleAt = false, time.Now()
	return !l.broken && !l.retiring && l.last < math.MaxUint32
}

// good says whether an idle lane may be taken for a new stream.
func (l *lane) good(now time.Time) bool {
	l.mu.Lock()
	ok := !l.broken && !l.retiring && now.Before(l.staleAt()) && max(l.seen, l.shown) < maxProofs
	l.mu.Unlock()
	return ok && quiet(l.raw)
}

func (l *lane) info() LaneInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	info := LaneInfo{Peer: l.peer, Direction: DirectionIn, Since: l.since, Streams: l.streams, Busy: l.busy, Ends: l.endsAt()}
	if l.dialled {
		info.Direction = DirectionOut
	}
	for id := range l.theirs {
		info.Proven = append(info.Proven, id)
	}
	return info
}
