// SPDX-License-Identifier: Apache-2.0

// Package ledger holds the signed records that the nodes of a mesh share and
// says what is in force: who is a member, what is granted, which intentions
// apply. It must not know of networks, disks or clocks: the caller carries
// records about and keeps them.
//
// # Merge
//
// A record belongs to a cell, named by kind and key. In a cell every signer has
// one slot (one per certificate or member key where a record binds one), and a
// slot holds the signer's record of the highest sequence. So the state is a
// join of maxima: the order, grouping and repetition of merges don't matter.
//
// A record counts while its signer may sign it. Of those that count, the heads
// are the ones that no other supersedes. Naming a dot in Supersedes supersedes
// that dot and all earlier ones of its signer in the same cell, never another
// cell. Two records that supersede each other are both heads. Several heads are
// a conflict, decided deny, then delete, then allow.
//
// # Trust
//
//	root ──► operator ──► operator, authority, grant, intention, revocation
//	root ──► authority ──► member ──► node, instance (its own only)
//
// Revocation is by public key, final, and takes effect on everything the key
// signed, earlier or later, as if it had never been signed; so it also takes
// back what only that key vouched for, operators included. Let another
// operator, or better the root, sign anew what should stay (SignedBy lists it)
// before revoking an operator. Revocations by a revoked operator count all the
// same, so two that revoke each other are both out, whichever came first;
// only those by an operator whom the root revoked don't. The root can't be
// revoked.
//
// Two different keys for one member name are a conflict in which neither is a
// member, until one of the keys is revoked or the name deleted.
//
// # Refusals
//
// A record whose signer may not sign it, yet or any more, is refused without a
// trace and may come again. A dot that was taken once and is no longer held is
// stale and refused for ever.
package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
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
	ErrEquivocation  = errors.New("the signer gave this number to another record, which stays")
	ErrLimit         = errors.New("too many records of one signer")
	ErrNameTaken     = errors.New("the name is taken by a node with another key: choose another name, or revoke that node first")
)

// Ledger is safe for concurrent use. Everything that reads is a method of View.
type Ledger struct {
	*View
	merging  sync.Mutex // serialises writers: only they change what View.mu guards
	reserved map[identity.KeyID]uint64
}

// View reads a ledger as it is at the moment of each call. Reads never wait for
// a signature check. It is safe for concurrent use.
type View struct {
	trustDomain string
	root        identity.KeyID

	mu     sync.RWMutex // guards what follows
	cells  map[Kind]map[string]*cell
	held   map[Dot]*entry
	seen   map[identity.KeyID]Ranges
	usage  map[identity.KeyID]int     // bytes held of node and instance records, per signer
	byNode map[identity.Name][]string // keys of instance cells
	dirty  []*entry                   // put or dropped since the views were last brought up to date
	view   views
	gen    uint64

	digestMu  sync.Mutex // guards what follows; taken while mu is held
	digestGen uint64
	digest    [32]byte
}

// New returns an empty ledger of one mesh. root is the key that everything
// else is derived from: the KeyID of the root certificate's key.
func New(trustDomain string, root identity.KeyID) *Ledger {
	l := &Ledger{reserved: map[identity.KeyID]uint64{}, View: &View{
		trustDomain: trustDomain,
		root:        root,
		cells:       map[Kind]map[string]*cell{},
		held:        map[Dot]*entry{},
		seen:        map[identity.KeyID]Ranges{},
		usage:       map[identity.KeyID]int{},
		byNode:      map[identity.Name][]string{},
		gen:         1,
	}}
	l.rebuild()
	return l
}

// Restore loads what the caller kept: records that Merge or Sign returned, and
// Seen. Every signature is checked again. What is sound is loaded even when an
// error says that some wasn't.
func (l *Ledger) Restore(recs []Record, seen map[identity.KeyID]Ranges) error {
	l.merging.Lock()
	defer l.merging.Unlock()
	entries, rejected := l.openAll(recs)
	entries, forged := l.verify(entries)
	bad := append(rejected, forged...)

	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for id, rs := range seen {
		if err := rs.validate(); err != nil {
			errs = append(errs, fmt.Errorf("seen numbers of %s: %w", id.Short(), err))
			continue
		}
		l.seen[id] = l.seen[id].union(rs)
	}
	for _, e := range entries {
		if l.newest(e) {
			l.put(e)
		}
	}
	l.rebuild()
	if len(bad) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d kept records are damaged and left out, the first is %s %q: %w",
			len(bad), len(recs), bad[0].Record.Kind, bad[0].Record.Key, bad[0].Err))
	}
	return errors.Join(errs...)
}

// newest reports whether e may take its slot: nothing there is newer, and of
// two records under one dot it is the one with the lower hash.
func (l *Ledger) newest(e *entry) bool {
	if old, ok := l.held[e.Dot]; ok && slices.Compare(e.hash[:], old.hash[:]) >= 0 {
		return false
	}
	old := l.cells[e.Kind][e.Key].at(e.slot())
	return old == nil || old.Dot.Seq <= e.Dot.Seq
}

// Records returns every record that counts, for the exchange of full state, in
// the order of kinds in which one vouches for the next. Operators may stand
// before those who vouch for them, so all belong in one Merge. The records are
// not to be changed.
func (l *View) Records() []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []*entry
	for _, e := range l.held {
		if l.counts(e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, compareEntries)
	return records(found)
}

// SignedBy returns the heads that a key signed: what revoking it takes back.
func (l *View) SignedBy(id identity.KeyID) []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found []*entry
	for _, e := range l.held {
		if e.Dot.Signer == id && slices.Contains(l.cells[e.Kind][e.Key].heads, e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, compareEntries)
	return records(found)
}

func records(entries []*entry) []Record {
	out := make([]Record, len(entries))
	for i, e := range entries {
		out[i] = e.Record
	}
	return out
}

// Seen returns, per signer, the numbers of all records ever taken.
func (l *View) Seen() map[identity.KeyID]Ranges {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make(map[identity.KeyID]Ranges, len(l.seen))
	for id, rs := range l.seen {
		out[id] = slices.Clone(rs)
	}
	return out
}

// Heads returns the unsuperseded records of one key; more than one is a
// conflict, except that a node may be an authority under several certificates.
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
