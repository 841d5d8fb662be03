// SPDX-License-Identifier: Apache-2.0

package records

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"time"

	"tacit/identity"
)

// Revision says what a node's kernel maps hold, and which names it answers.
type Revision struct {
	Digest string `json:"d"`           // of the intentions and resolvers
	Epoch  uint64 `json:"e"`           // grows with every start of the daemon
	Number uint64 `json:"r"`           // grows with every change to the maps; a reboot begins anew
	Names  string `json:"n,omitempty"` // digest of the services and ports by which it answers names
	Change uint64 `json:"c,omitempty"` // grows with every change to Digest or Names: a resolver need not change a map
}

func (r Revision) newer(old Revision) bool {
	return cmp.Or(cmp.Compare(r.Epoch, old.Epoch), cmp.Compare(r.Number, old.Number), cmp.Compare(r.Change, old.Change)) > 0
}

// setEpoch is the setting with the epoch of the last start.
const setEpoch = "epoch"

// nextEpoch is one that no earlier start had: the time, unless the clock was
// set back.
func nextEpoch(s Store) (uint64, error) {
	last, err := s.Get(setEpoch)
	if err != nil {
		return 0, err
	}
	epoch := uint64(time.Now().Unix())
	if len(last) == 8 {
		epoch = max(epoch, binary.BigEndian.Uint64(last)+1)
	}
	if err := s.Set(setEpoch, binary.BigEndian.AppendUint64(nil, epoch)); err != nil {
		return 0, fmt.Errorf("this start can't be written down: %w", err)
	}
	return epoch, nil
}

// revisions are what nodes said last about themselves. They are claims, as all
// liveness is: nothing is permitted or refused by them.
type revisions struct {
	mu     sync.Mutex
	byNode map[identity.Name]Revision
}

// learn reports whether the revision is newer than the known one.
func (p *revisions) learn(node identity.Name, rev Revision) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.byNode[node]; ok && !rev.newer(old) {
		return false
	}
	p.byNode[node] = rev
	return true
}

func (p *revisions) all() map[identity.Name]Revision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.byNode)
}

// Announce tells the other members what is in force on this node: the digest of the
// intentions and resolvers, and the number of the last change to the kernel's maps;
// and the digest of the names that it answers. It is called by one goroutine at a time.
func (r *Records) Announce(digest, names string, number uint64) {
	rev := Revision{Digest: digest, Epoch: r.epoch, Number: number, Names: names}
	if last := r.peers.all()[r.conf.Self]; last.Epoch == r.epoch {
		if rev.Change = last.Change; last.Names != names || last.Digest != digest {
			rev.Change++
		}
	}
	if r.peers.learn(r.conf.Self, rev) {
		r.send(message{Revisions: map[identity.Name]Revision{r.conf.Self: rev}})
	}
}

// Revisions is what every node, this one included, said last.
func (r *Records) Revisions() map[identity.Name]Revision { return r.peers.all() }
