// SPDX-License-Identifier: Apache-2.0

package records

import (
	"cmp"
	"fmt"
	"time"

	"tacit/identity"
)

// signContext is the prefix of every signed message of a revision.
const signContext = "tacit revision 1"

// Stamp orders the revisions of a node.
type Stamp struct {
	Epoch   uint64 `json:"e"` // grows with every start of the daemon
	Counter uint64 `json:"c"` // grows with every revision of a start
}

func (s Stamp) compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.Epoch, o.Epoch), cmp.Compare(s.Counter, o.Counter))
}

func (r Revision) message(node identity.Name) []byte {
	return fmt.Appendf(nil, "%q %q %q %d %d", node, r.Digest, r.Names, r.Epoch, r.Counter)
}

func (r *Revision) sign(node identity.Name, key *identity.Key) (err error) {
	r.Signature, err = key.Sign(signContext, r.message(node))
	return err
}

// maxRevision is how many bytes the texts of a revision have at most.
const maxRevision = 256

// Dropped counts the revisions that nobody announced who may, since the start.
type Dropped struct {
	Forged   uint64 // by nobody's key, or not by that member's
	Replayed uint64 // older than what that member announced since
	Excess   uint64 // unread, because too many came
}

// Dropped are those of this node.
func (r *Records) Dropped() Dropped {
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	return r.peers.dropped
}

// hear takes what somebody says a node has announced, and reports whether that is
// news. The cheap checks come first: who floods this node with revisions makes it
// check only so many signatures.
func (r *Records) hear(node identity.Name, rev Revision) (news bool) {
	m, member := r.View().Member(node)
	if !member {
		return false
	}
	said := heard{rev, string(m.Public)}
	if !r.peers.worth(node, said, time.Now()) {
		return false
	}
	if err := identity.VerifySignature(m.Public, signContext, rev.message(node), rev.Signature); err != nil {
		r.peers.forged()
		r.conf.Log.Warn("a revision that its node has not signed was dropped", "node", node)
		return false
	}
	if node == r.conf.Self {
		r.overtake(rev)
		return false
	}
	return r.peers.learn(node, said)
}

// worth says whether a revision is worth a look at its signature.
func (p *revisions) worth(node identity.Name, rev heard, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, known := p.byNode[node]
	known = known && old.by == rev.by
	switch {
	case known && rev.compare(old.Stamp) == 0: // every member passes it on
		return false
	case known && rev.compare(old.Stamp) < 0:
		p.dropped.Replayed++
		return false
	case len(rev.Digest)+len(rev.Names)+len(rev.Signature) > maxRevision:
		p.dropped.Forged++
		return false
	case !p.meter.allow(node, now):
		p.dropped.Excess++
		return false
	}
	return true
}

func (p *revisions) forged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped.Forged++
}

// learn keeps a revision that its node has signed, unless a newer one came meanwhile.
func (p *revisions) learn(node identity.Name, rev heard) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, known := p.byNode[node]; known && old.by == rev.by && rev.compare(old.Stamp) <= 0 {
		return false
	}
	p.byNode[node] = rev
	return true
}

// overtakeInterval keeps two daemons with copies of one state folder from overtaking
// each other all the time.
const overtakeInterval = 5 * time.Second

// overtake makes this node's revisions newer than one that it signed itself and
// doesn't know: its state folder is older than that.
func (r *Records) overtake(rev Revision) {
	if !r.peers.raise(rev.Epoch, time.Now()) {
		return // it comes again with the next exchange
	}
	r.conf.Log.Warn("this node has announced more than it knows: its state folder was set back, or another daemon has a copy of it", "epoch", rev.Epoch)
	r.announce(func(last Revision, said bool) (Revision, bool) { return last, said })
}

// raise takes the epoch after one that this node has used already.
func (p *revisions) raise(used uint64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.overtook) < overtakeInterval {
		return false
	}
	p.overtook, p.epoch = now, max(p.epoch, used+1)
	return true
}

// How many signatures of revisions are checked in a second: of those that claim to
// be one node's, and in all. A check takes 70 µs.
const (
	checksOfNode = 200
	checksInAll  = 2000
)

// meter counts the checks of a second.
type meter struct {
	second int64
	all    int
	byNode map[identity.Name]int
}

func (m *meter) allow(node identity.Name, now time.Time) bool {
	if s := now.Unix(); s != m.second {
		*m = meter{second: s, byNode: map[identity.Name]int{}}
	}
	if m.all >= checksInAll || m.byNode[node] >= checksOfNode {
		return false
	}
	m.all++
	m.byNode[node]++
	return true
}
