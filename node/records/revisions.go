// SPDX-License-Identifier: Apache-2.0

package records

import (
	"sync"
	"time"

	"tacit/identity"
)

// Revision is what a node has announced last about itself, signed by its key.
type Revision struct {
	Digest string `json:"d"`           // of the policy that its kernel's maps hold; "": it isn't in force
	Names  string `json:"n,omitempty"` // digest of the services and ports by which it answers names
	Stamp
	Signature []byte `json:"s"`
}

// revisions are what the nodes have announced last. Their signatures verify; what
// they say is true as far as the node is honest. Nothing is permitted or refused by
// them.
type revisions struct {
	mu       sync.Mutex // guards what follows
	byNode   map[identity.Name]heard
	epoch    uint64    // of this start, or a later one
	overtook time.Time // when epoch was raised last
	dropped  Dropped
	meter    meter
}

// heard is a revision, and the key that signed it.
type heard struct {
	Revision
	by string // SPKI, DER
}

// Announce tells the other members what is in force on this node: the digest of the
// policy that the kernel's maps hold, "" for none, and the digest of the names that it
// answers. It is called by one goroutine at a time.
func (r *Records) Announce(digest, names string) {
	r.announce(func(last Revision, said bool) (now Revision, news bool) {
		return Revision{Digest: digest, Names: names}, !said || last.Digest != digest || last.Names != names
	})
}

// announce signs and sends what follows from the last revision, if that is news.
func (r *Records) announce(next func(last Revision, said bool) (now Revision, news bool)) {
	rev, news, err := r.peers.next(r.conf.Self, r.conf.Key, next)
	if err != nil {
		r.conf.Log.Error("this node's revision can't be signed", "err", err)
		return
	}
	if news {
		r.send(message{Revisions: map[identity.Name]Revision{r.conf.Self: rev}})
	}
}

func (p *revisions) next(self identity.Name, key *identity.Key, next func(Revision, bool) (Revision, bool)) (rev Revision, news bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, said := p.byNode[self]
	if rev, news = next(last.Revision, said); !news {
		return rev, false, nil
	}
	rev.Stamp = Stamp{Epoch: p.epoch, Counter: last.Counter + 1}
	if err := rev.sign(self, key); err != nil {
		return rev, false, err
	}
	p.byNode[self] = heard{rev, string(key.Public())}
	return rev, true, nil
}

// Revisions is what every member, this one included, announced last. What was signed
// by a key that is no longer the member's is left out.
func (r *Records) Revisions() map[identity.Name]Revision {
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	out := make(map[identity.Name]Revision, len(r.peers.byNode))
	for _, m := range r.View().Members() {
		if rev, ok := r.peers.byNode[m.Node]; ok && rev.by == string(m.Public) {
			out[m.Node] = rev.Revision
		}
	}
	return out
}
