// SPDX-License-Identifier: Apache-2.0

// Package ledger holds the signed records that the nodes of a mesh share, and
// derives what is in force: the members, the grants, the intentions, the resolvers.
// It must not use networks, disks or clocks: its caller sends and stores the records.
//
// # Merge
//
// A record belongs to a cell, named by kind and key. In a cell every node has one
// slot, and every other signer one for each of its epochs (and for each certificate or
// member key, if the record binds one). A slot holds the signer's record with the
// highest sequence number. The state is a join of maxima: the order, grouping and
// repetition of merges don't matter.
//
// An epoch is one start of a signer's daemon. A disk that was rolled back doesn't know
// all that its key has signed; what it signs now is in another epoch, and is a
// conflict with what it doesn't know instead of replacing it.
//
// A record counts while its signer may sign it. The heads are the counting records
// that no other supersedes. A dot in Supersedes supersedes that record and all
// earlier ones of its signer and epoch in the same cell; one with the counter 0 all of
// its own signer before it. A record names its signer's epochs in the cell with all
// that their records named, so a record that its own signer supersedes is dropped
// for good: whoever lacks the record in between still learns of it. Instances of a node
// go by its floor, too.
// Two records that supersede each other are both heads. Several heads are a conflict:
// deny wins over delete, and delete over allow. Of resolvers, delete wins, and else the
// one with the lowest hash, which is the same on all nodes.
//
// # Trust
//
//	root ──► operator ──► operator, authority, grant, intention, resolver, revocation
//	root ──► authority ──► member ──► node, instance, floor (its own only)
//
// Revocation is by public key and final. It voids everything that the key signed,
// earlier or later, and so also what rests on that alone, operators included.
// Before an operator is revoked, another operator, or better the root, should sign
// again what must stay (SignedBy lists it). Revocations by a revoked operator still
// count, so two operators that revoke each other are both revoked, in either order;
// only revocations by an operator that the root revoked don't count. The root can't
// be revoked.
//
// Two different keys for one member name are a conflict: neither is a member until
// one of the keys is revoked or the name is deleted.
//
// # Refusals
//
// A record whose signer may not sign it, yet or any more, is refused, and may be
// merged later. A record is stale if one that its cell holds replaces it: a later one
// of its slot, or one of its signer that names it. What replaces is never dropped but for
// what replaces that, so a stale record is refused for ever.
//
// A number that a signer used twice, since two of its starts had one epoch, does no
// harm in different cells. In one cell, the record stays that would win the conflict.
package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"tacit/identity"
)

// Errors of Merge (in Rejection.Err), Sign and Prepare.
var (
	ErrMalformed     = errors.New("malformed record")
	ErrBody          = errors.New("bad record body")
	ErrSignature     = errors.New("the record's signature doesn't verify")
	ErrNotAuthorized = errors.New("the key may not sign this")
	ErrRevoked       = errors.New("the key is revoked")
	ErrStale         = errors.New("the record is superseded")
	ErrEquivocation  = errors.New("the signer has used this sequence number for another record of this key, which is kept")
	ErrLimit         = errors.New("too many records by one signer")
	ErrNameTaken     = errors.New("a node with another key has this name: choose another name, or revoke that node first")
)

// Ledger holds the records. It is safe for concurrent use. All reading methods are
// View's.
type Ledger struct {
	*View
	merging  sync.Mutex                // serialises writers, which alone change what View.mu guards
	start    uint64                    // the epoch of Begin
	reserved map[identity.KeyID]uint64 // the last number that may not be given again
	given    map[identity.KeyID]uint64 // the last number since Begin
	dropped  []string
	check    func(e *entry) error // the signature
}

// View reads a ledger in its state at each call. Reads never wait for a signature
// check. It is safe for concurrent use.
type View struct {
	trustDomain string
	root        identity.KeyID

	mu     sync.RWMutex // guards what follows
	cells  map[Kind]map[string]*cell
	last   map[identity.KeyID]uint64  // the highest number of each signer
	floors map[identity.KeyID]uint64  // epoch of node keys: their instances before it are gone
	usage  map[identity.KeyID]int     // bytes of the node and instance records held, per signer
	byNode map[identity.Name][]string // keys of instance cells
	dirty  []*entry                   // put or dropped since the last update of the views
	view   views
	gen    uint64

	digestMu  sync.Mutex // guards what follows; taken while mu is held
	digestGen uint64
	digest    [32]byte
}

// New returns an empty ledger of one mesh. root is the KeyID of the root
// certificate's key, on which all trust rests.
func New(trustDomain string, root identity.KeyID) *Ledger {
	l := &Ledger{reserved: map[identity.KeyID]uint64{}, given: map[identity.KeyID]uint64{}, View: &View{
		trustDomain: trustDomain,
		root:        root,
		cells:       map[Kind]map[string]*cell{},
		last:        map[identity.KeyID]uint64{},
		floors:      map[identity.KeyID]uint64{},
		usage:       map[identity.KeyID]int{},
		byNode:      map[identity.Name][]string{},
		gen:         1,
	}}
	l.check = l.checkSignature
	l.rebuild()
	return l
}

// Restore loads what the caller stored: records that Merge or Sign returned, and
// Last. It verifies every signature again. Valid records are loaded even when the
// error reports damaged ones.
func (l *Ledger) Restore(recs []Record, last map[identity.KeyID]uint64) error {
	l.merging.Lock()
	defer l.merging.Unlock()
	entries, rejected := l.openAll(recs)
	entries, forged := l.verify(entries)
	bad := append(rejected, forged...)

	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for id, n := range last {
		if n > math.MaxInt64 {
			errs = append(errs, fmt.Errorf("the last number of %s is damaged: %d", id.Short(), n))
			continue
		}
		l.last[id] = max(l.last[id], n)
	}
	for _, e := range entries {
		c := l.cells[e.Kind][e.Key]
		at := c.at(e.slot())
		switch {
		case at != nil && at.hash == e.hash:
		case c.replacing(e) != nil || l.below(e):
			l.forget(e)
		default:
			l.put(e)
		}
	}
	l.rebuild()
	if len(bad) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d stored records are damaged and were left out, the first is %s %q: %w",
			len(bad), len(recs), bad[0].Record.Kind, bad[0].Record.Key, bad[0].Err))
	}
	return errors.Join(errs...)
}

// Records returns every record that counts, for the exchange of full state, sorted
// so that records which authorise others precede them, and revocations come last, as
// Merge takes them. An operator may still precede the operator that authorises it. The
// caller must not change the records.
func (l *View) Records() []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := l.find(l.counts)
	slices.SortFunc(found, mergeOrder)
	return records(found)
}

// Membership returns the records that make the members, and say where they are: what
// a node needs to know whom to ask for all others.
func (l *View) Membership() []Record {
	return slices.DeleteFunc(l.Records(), func(r Record) bool { return ranks[r.Kind] > ranks[KindMember] && r.Kind != KindNode })
}

// SignedBy returns the heads that a key signed: revoking the key voids them.
func (l *View) SignedBy(id identity.KeyID) []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return records(l.find(func(e *entry) bool {
		return e.Dot.Signer == id && slices.Contains(l.cells[e.Kind][e.Key].heads, e)
	}))
}

// find returns the records for which is returns true, sorted. The caller holds mu.
func (l *View) find(is func(*entry) bool) []*entry {
	var found []*entry
	for _, cells := range l.cells {
		for _, c := range cells {
			for _, e := range c.slots {
				if is(e) {
					found = append(found, e)
				}
			}
		}
	}
	slices.SortFunc(found, compareEntries)
	return found
}

func records(entries []*entry) []Record {
	out := make([]Record, len(entries))
	for i, e := range entries {
		out[i] = e.Record
	}
	return out
}

// Last returns the highest number of each signer whose records were merged: a signer
// that has lost records doesn't give their numbers away again.
func (l *View) Last() map[identity.KeyID]uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.last)
}

// Heads returns the heads of one key. More than one is a conflict, except that a
// node may be an authority under several certificates.
func (l *View) Heads(k Kind, key string) []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c := l.cells[k][key]
	if c == nil {
		return nil
	}
	return records(c.heads)
}

// Keys returns, sorted, the keys of a kind that have a head, deletes included.
func (l *View) Keys(k Kind) []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var keys []string
	for key, c := range l.cells[k] {
		if len(c.heads) > 0 {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Digest returns a hash over all heads, equal on nodes that hold the same.
func (l *View) Digest() [32]byte {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.digestMu.Lock()
	defer l.digestMu.Unlock()
	if l.digestGen != l.gen {
		l.digest, l.digestGen = l.hashHeads(), l.gen
	}
	return l.digest
}

func (l *View) hashHeads() [32]byte {
	var all [][]byte
	for _, cells := range l.cells {
		for _, c := range cells {
			for _, e := range c.heads {
				all = append(all, e.hash[:])
			}
		}
	}
	slices.SortFunc(all, slices.Compare)
	h := sha256.New()
	for _, sum := range all {
		h.Write(sum)
	}
	return [32]byte(h.Sum(nil))
}
