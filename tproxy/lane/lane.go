// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/guest"
)

// lane is one TLS connection between two nodes. Only the end that dialled it opens
// streams. Its state belongs to its loop, but for what mu guards.
type lane struct {
	cfg     *Config
	loop    *Loop
	peer    identity.ID
	addr    netip.AddrPort // the other end's
	dialled bool
	channel identity.Channel
	since   time.Time
	guest   *guest.Guest               // what the peer does on all its lanes
	work    *sync.WaitGroup            // goroutines of the lane
	left    func(*lane, policy.Reason) // called once, on the loop, when the lane has ended
	ended   chan struct{}
	total   atomic.Int64 // streams so far
	moved   atomic.Int64 // bytes since the last upkeep
	due     atomic.Bool  // a round of upkeep is waiting for the loop

	wire    // used on the loop only
	traffic // used on the loop only

	proving sync.Mutex // held from the choice to prove a service until the proof is queued

	mu sync.Mutex // guards what follows
	standing
	trusted
}

// standing is what other goroutines see of a lane.
type standing struct {
	retiring bool      // takes no further streams
	retired  time.Time // since when
	broken   bool
	why      policy.Reason // for which it was aborted
	live     int           // streams
	idleAt   time.Time     // when the last stream ended
}

// traffic is what a lane carries.
type traffic struct {
	streams map[uint32]*Stream
	last    uint32    // number of the newest stream
	waiting []*Stream // for room in the output
	touched []*Stream // have something to deliver
	ending  bool      // the end has begun: nothing is read or sent any more
}

// start begins to carry.
func (l *lane) start() error {
	started := make(chan error, 1)
	if !l.loop.Do(func() { started <- l.watch() }) {
		return errClosed
	}
	return <-started
}

// watch begins to carry, on the loop, unless the lane was ended before: then its
// descriptor may be another connection's already.
func (l *lane) watch() error {
	if l.ending {
		return errClosed
	}
	l.guest.Way.Learn(l.conn.Path())
	err := l.loop.Watch(l.conn.FD(), l)
	if err != nil {
		l.endNow(policy.ReasonLane, err)
	}
	return err
}

var errClosed = errors.New("the proxy is closed")

// handle takes one frame.
func (l *lane) handle(h frame.Header, payload []byte) {
	switch h.Kind {
	case frame.Open:
		l.arrived(h.Stream, payload)
	case frame.Prove:
		l.pause(payload)
	case frame.Ping:
		l.pong = true
		l.queue()
		l.strike("PINGs")
	case frame.Pong: // that it came is all that it says
	case frame.Retire:
		l.retireHere()
	default:
		l.handleOf(h, payload)
	}
}

// handleOf takes one frame of a stream.
func (l *lane) handleOf(h frame.Header, payload []byte) {
	s := l.streams[h.Stream]
	switch {
	case h.Stream > l.last, h.Kind == frame.Answer && !l.dialled:
		l.breach(fmt.Sprintf("%s for stream %d after stream %d", h.Kind, h.Stream, l.last))
	case s != nil:
		s.handle(h, payload)
	case h.Kind == frame.Reset && !l.dialled:
		l.strike("streams reset after their end")
	}
}

// touch notes that a stream has something to deliver.
func (l *lane) touch(s *Stream) {
	if !s.touched {
		s.touched = true
		l.touched = append(l.touched, s)
	}
}

// deliver hands over what arrived in the present read.
func (l *lane) deliver() {
	touched := l.touched // a user may end the lane
	l.touched = nil
	for _, s := range touched {
		s.touched = false
		s.deliver()
	}
	clear(touched)
	if l.touched == nil && !l.ending {
		l.touched = touched[:0]
	}
}

// reserve counts a stream that is to be opened; false: the lane takes none any more.
func (l *lane) reserve() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken || l.retiring {
		return false
	}
	l.live++
	l.guest.Carried.Add(1)
	return true
}

// remove forgets a stream that is over.
func (l *lane) remove(s *Stream) {
	if l.streams[s.id] != s {
		return
	}
	delete(l.streams, s.id)
	if !l.dialled {
		l.guest.Closed()
	}
	l.release()
}

// release counts a stream that is over.
func (l *lane) release() {
	l.mu.Lock()
	l.live--
	l.guest.Carried.Add(-1)
	if l.live == 0 {
		l.idleAt = time.Now()
	}
	last := l.live == 0 && l.retiring && l.dialled
	l.mu.Unlock()
	if last {
		l.loop.Do(l.finish)
	}
}

// good says whether the lane may carry a new stream.
func (l *lane) good(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.broken && !l.retiring && !l.nodes.Stale(now) && !l.services.Spent()
}

// load is how much the lane does: its streams, and whether further ones are better off
// on another lane.
func (l *lane) load() (live int, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live, l.moved.Load() > heavyBytes || l.guest.Way.Poor()
}

// heavyBytes within an UpkeepPeriod make a lane one that new streams avoid.
const heavyBytes = 16 << 20

func (l *lane) info() Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	info := Info{Peer: l.peer, Dialled: l.dialled, Addr: l.addr, Since: l.since, Streams: int(l.total.Load()), Live: l.live, Ends: l.nodes.Ends()}
	for id, p := range l.services.Theirs() {
		if p.Bad == nil {
			info.Proven = append(info.Proven, Proven{id, p.Keys[0], p.To})
		}
	}
	return info
}
