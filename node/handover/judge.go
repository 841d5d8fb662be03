// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy"
)

// Judge is how a successor answers for the policy that is in force. Its methods are
// called from many goroutines at once.
type Judge interface {
	Decide(source, destination identity.Name) policy.Decision
	Granted(node, service identity.Name) bool
	// Check says why a peer, or a service of one, with these keys is trusted no longer.
	Check(id identity.ID, chain []identity.KeyID) error
	// Ended is told of each connection that the predecessor has carried.
	Ended(tproxy.Flow)
}

// beat is the longest time between two signs of life of a predecessor.
const beat = 500 * time.Millisecond

// Predecessor is a daemon that carries the streams which it had when this one took
// over. A nil Predecessor has ended.
type Predecessor struct {
	pid     int
	version string
	since   time.Time
	beside  []int
	conn    net.Conn
	live    atomic.Int64
	ended   chan struct{}

	mu      sync.Mutex
	changes uint64
	changed chan struct{} // closed at the next change
}

func newPredecessor(s *Succession) *Predecessor {
	return &Predecessor{pid: s.PID, version: s.Version, since: time.Now(), beside: s.Beside, conn: s.conn,
		ended: make(chan struct{}), changes: 1, changed: make(chan struct{})}
}

// Judge begins to answer: the policy is in force here. Until then the predecessor waits.
func (p *Predecessor) Judge(judge Judge) {
	if p == nil {
		return
	}
	server := rpc.NewServer()
	_ = server.RegisterName(service, &court{p, judge}) // it has the methods that a service must have
	go func() {
		server.ServeCodec(jsonrpc.NewServerCodec(p.conn))
		close(p.ended)
	}()
}

// Sweep has the predecessor ask again about every stream and lane.
func (p *Predecessor) Sweep() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	close(p.changed)
	p.changed = make(chan struct{})
}

// Done is closed when the predecessor has ended.
func (p *Predecessor) Done() <-chan struct{} {
	if p == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return p.ended
}

// Daemons are the processes of earlier daemons that still carry streams.
func (p *Predecessor) Daemons() []int {
	select {
	case <-p.Done():
		return nil
	default:
		return append([]int{p.pid}, p.beside...)
	}
}

// carries is how many streams the predecessor and those before it still carry.
func (p *Predecessor) carries() int {
	if p.Daemons() == nil {
		return 0
	}
	return int(p.live.Load())
}

// Draining says what the predecessor still does, "" once it has ended.
func (p *Predecessor) Draining() string {
	select {
	case <-p.Done():
		return ""
	default:
		return fmt.Sprintf("process %d (%s) carries %d streams from before the take-over %s ago", p.pid, p.version, p.carries(), time.Since(p.since).Round(time.Second))
	}
}

// await returns the number of changes once it isn't seen any more, or after a while.
func (p *Predecessor) await(seen uint64) uint64 {
	p.mu.Lock()
	changes, changed := p.changes, p.changed
	p.mu.Unlock()
	if changes != seen {
		return changes
	}
	select {
	case <-changed:
	case <-time.After(beat):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

// service is the name of the court among the services of the connection.
const service = "Court"

// court is what the predecessor calls.
type court struct {
	p     *Predecessor
	judge Judge
}

// Turn is what a predecessor tells each time.
type Turn struct {
	Seen uint64 // changes that it has judged its streams after
	Live int    // streams
}

// Pair is a source and a destination, or a node and a service.
type Pair struct{ A, B identity.Name }

// Peer is somebody at the other end of a lane.
type Peer struct {
	ID    string
	Chain []identity.KeyID
}

// Verdict is nil or a refusal.
type Verdict struct {
	Reason policy.Reason
	Detail string
}

// Await waits for a change.
func (c *court) Await(t Turn, changes *uint64) error {
	c.p.live.Store(int64(t.Live))
	*changes = c.p.await(t.Seen)
	return nil
}

// Decide judges a source and a destination.
func (c *court) Decide(q Pair, d *policy.Decision) error {
	*d = c.judge.Decide(q.A, q.B)
	return nil
}

// Granted judges a node and a service.
func (c *court) Granted(q Pair, granted *bool) error {
	*granted = c.judge.Granted(q.A, q.B)
	return nil
}

// Check judges a peer.
func (c *court) Check(q Peer, v *Verdict) error {
	id, err := identity.ParseID(q.ID)
	if err == nil {
		err = c.judge.Check(id, q.Chain)
	}
	if err != nil {
		*v = Verdict{policy.ReasonOf(err, policy.ReasonRevoked), err.Error()}
	}
	return nil
}

// Ended is told of a connection.
func (c *court) Ended(f tproxy.Flow, _ *struct{}) error {
	c.judge.Ended(f)
	return nil
}
