// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/x509"
	"maps"
	"sync"
	"time"

	"tacit/identity"
)

const (
	// MaxProofs is how many proofs of services may come at once, per lane and
	// direction. One more may come each RenewalPause.
	MaxProofs = 64

	showAgain    = time.Second                        // after which a service is proven once more to a peer that asks
	serviceGrace = ExpiryGrace - 250*time.Millisecond // so that a stream ends within ExpiryGrace after its service's certificate
)

// Proven is what the peer has proven of a service. No more is kept of its
// certificate, since parsed certificates are large and there are many lanes.
type Proven struct {
	From, To time.Time        // the certificate's life
	Keys     []identity.KeyID // of its chain
	Bad      error            // why it doesn't count: a key was revoked
}

// Holds says whether the proof counts.
func (p Proven) Holds(now time.Time) bool { return p.Bad == nil && !now.After(p.To) }

// EndsSoon says that less than an eighth of the certificate's life is left.
func (p Proven) EndsSoon(now time.Time) bool { return p.To.Sub(now) < p.To.Sub(p.From)/8 }

// Services are those that were proven on a lane. It is safe for concurrent use.
type Services struct {
	mu     sync.Mutex              // guards what follows
	theirs map[identity.ID]Proven  // by the peer
	ours   map[identity.Name]shown // by this node
	seen   Tally                   // proofs received
	sent   Tally                   // proofs sent
}

// shown is a service certificate that this node has proven on a lane.
type shown struct {
	leaf *x509.Certificate
	at   time.Time
}

// NewServices is of a lane that begins.
func NewServices(now time.Time) *Services {
	return &Services{theirs: map[identity.ID]Proven{}, ours: map[identity.Name]shown{},
		seen: NewTally(MaxProofs, RenewalPause, now),
		sent: NewTally(MaxProofs, 2*RenewalPause, now)} // slower than the peer forgets
}

// Spent says whether no further service can be proven now.
func (s *Services) Spent() bool { return max(s.Proofs()) >= MaxProofs }

// Proofs is how many proofs count at present.
func (s *Services) Proofs() (seen, sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.n, s.sent.n
}

// Count counts a proof of the peer's; false: they are too many.
func (s *Services) Count(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.Add(now)
}

// Learn takes what the peer has proven.
func (s *Services) Learn(id identity.ID, p Proven) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.theirs[id] = p
}

// Of is what the peer has proven of a service.
func (s *Services) Of(id identity.ID) Proven {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.theirs[id]
}

// Theirs is all that the peer has proven.
func (s *Services) Theirs() map[identity.ID]Proven {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.theirs)
}

// Show says whether a service of this node must be proven to the peer, and notes that
// it is; full: there were too many. asked: the peer has asked for it. One that asks
// again after a while didn't take the proof: its trust bundle may have been older.
func (s *Services) Show(name identity.Name, leaf *x509.Certificate, asked bool, now time.Time) (must, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.ours[name]
	if old.leaf == leaf && (!asked || now.Sub(old.at) < showAgain) {
		return false, false
	}
	if !s.sent.Add(now) {
		return false, true
	}
	s.ours[name] = shown{leaf, now}
	return true, false
}

// Forget has a service of this node proven once more: the peer hasn't taken the proof.
func (s *Services) Forget(name identity.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ours, name)
}

// Shown is the certificate by which a service of this node was last proven; nil: none.
func (s *Services) Shown(name identity.Name) *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ours[name].leaf
}

// Lapsed forgets the proofs by certificates that have ended.
func (s *Services) Lapsed(now time.Time) (gone []identity.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.theirs {
		if now.After(p.To.Add(serviceGrace)) {
			delete(s.theirs, id)
			gone = append(gone, id)
		}
	}
	return gone
}

// Bar notes that a proof no longer counts; false: it was renewed meanwhile.
func (s *Services) Bar(id identity.ID, p Proven) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.theirs[id]; len(now.Keys) == 0 || now.Keys[0] != p.Keys[0] {
		return false
	}
	s.theirs[id] = p
	return true
}

// Tally counts what a peer does. It forgets one each pause, so that a peer may go on
// for ever, and yet not do much at once.
type Tally struct {
	n, most int
	pause   time.Duration
	at      time.Time // up to when it has forgotten
}

// NewTally allows most at once, and one more each pause.
func NewTally(most int, pause time.Duration, now time.Time) Tally {
	return Tally{most: most, pause: pause, at: now}
}

// Add counts one more, unless there were too many.
func (t *Tally) Add(now time.Time) bool {
	past := max(0, now.Sub(t.at)/t.pause)
	t.n, t.at = max(0, t.n-int(past)), t.at.Add(past*t.pause)
	if t.n >= t.most {
		return false
	}
	t.n++
	return true
}
