// SPDX-License-Identifier: Apache-2.0

// Package records is this node's part of the signed state: it makes records,
// takes those of others, keeps all of them on disk and hands them to gossip. It
// also remembers which revision each node says its kernel has in force. It must
// not decide what a record permits: package ledger does.
package records

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy/ledger"
)

// Store keeps records on disk.
type Store interface {
	SaveRecords(recs []ledger.Record, last map[identity.KeyID]uint64, dropped []string) error
	// Get and Set are settings by name.
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
}

// Health learns what can't be kept, and what came back.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
	Repaired(object, found string)
}

// Config is what Records work with.
type Config struct {
	Self   identity.Name
	Key    *identity.Key  // this node's, which signs its revisions
	Ledger *ledger.Ledger // nobody else writes to it
	Store  Store
	Health Health
	Log    *slog.Logger
	// Changed is called after each change. It must not block.
	Changed func()
	// Learned is called with new records once they are in force; nil if nobody asks.
	Learned func([]ledger.Record)
	// Wait has nothing signed before a member has told what it knows: not with --alone.
	Wait bool
	Own  func(identity.KeyID) bool // is it a key of this node; nil: none is
	// After is the Epoch of the daemon whose work this one takes over: if the disk has the
	// same, it wasn't set back since a member told that one all it knows. 0: there is none.
	After uint64
}

// Records is safe for concurrent use.
type Records struct {
	conf  Config
	begun uint64 // epoch
	peers revisions
	gate  *gate

	signing sync.Mutex      // one record is numbered, kept and sent at a time; guards what follows
	unsaved []ledger.Record // merged and not on disk yet
	dropped []string        // IDs of those that may still be on disk

	returned atomic.Bool // the log says that own records came back

	sending   sync.Mutex // guards what follows
	broadcast func(payload []byte)
	waiting   [][]byte // made before there was a way to send it
}

// New returns the records of a ledger that membership has filled.
func New(c Config) (*Records, error) {
	last, err := lastEpoch(c.Store)
	if err != nil {
		return nil, err
	}
	epoch, err := nextEpoch(c.Store)
	if err != nil {
		return nil, err
	}
	c.Ledger.Begin(epoch)
	wait := c.Wait && (c.After == 0 || c.After != last) && !alone(c.Ledger.View, c.Self)
	r := &Records{conf: c, begun: epoch, peers: revisions{epoch: epoch, byNode: map[identity.Name]heard{}}, gate: newGate(wait)}
	r.SaveAgain() // what an earlier start left on disk goes
	return r, nil
}

// View reads the records.
func (r *Records) View() *ledger.View { return r.conf.Ledger.View }

// Change is a record to be made.
type Change struct {
	Kind   ledger.Kind
	Key    string // of the cell
	Body   any    // not used by a delete
	Delete bool
}

// Sign makes a record, keeps it on disk, and only then puts it in force here
// and sends it to the other members: a record that can't be kept was never
// made. Errors are those of ledger.Ledger.Prepare, the disk's, and ErrUnreached.
func (r *Records) Sign(key *identity.Key, c Change) error { return r.SignAll(key, []Change{c}) }

// SignAll is Sign for many records, of which either all are made or none: they
// are written to disk in one transaction. Each must have a cell of its own.
func (r *Records) SignAll(key *identity.Key, changes []Change) error {
	all := make([]Signed, len(changes))
	for i, c := range changes {
		all[i] = Signed{key, c}
	}
	return r.SignEach(all)
}

// Signed is a change with its signer.
type Signed struct {
	Key *identity.Key
	Change
}

// SignEach is SignAll with several signers. Others get the records in one message as
// long as gossip carries it, and take a revocation after the rest of its message.
func (r *Records) SignEach(changes []Signed) error {
	r.signing.Lock()
	defer r.signing.Unlock()
	recs := make([]ledger.Record, len(changes))
	for i, c := range changes {
		var err error
		if recs[i], err = r.prepare(c.Key, c.Change); err != nil {
			return fmt.Errorf("%s %s: %w", c.Kind, c.Change.Key, err)
		}
	}
	if err := r.make(recs); err != nil {
		return err
	}
	for _, c := range changes {
		if c.Kind == ledger.KindInstance && c.Delete {
			r.compact(c.Key)
			break
		}
	}
	return nil
}

// compact has all forget what this node has withdrawn, before that fills its room. The
// caller holds signing.
func (r *Records) compact(key *identity.Key) {
	recs, err := r.conf.Ledger.Compaction(key, r.conf.Self)
	if err == nil && len(recs) > 0 {
		err = r.make(recs)
	}
	if err != nil {
		r.conf.Log.Warn("withdrawn instances can't be forgotten yet", "err", err)
	}
}

// make keeps signed records, puts them in force and sends them. The caller holds signing.
func (r *Records) make(recs []ledger.Record) error {
	if err := r.keep(recs); err != nil {
		return fmt.Errorf("the change can't be kept, so it was not made: %w", err)
	}
	if _, rejected := r.conf.Ledger.Merge(recs); len(rejected) > 0 {
		bad := rejected[0]
		return fmt.Errorf("%s %s: %w", bad.Record.Kind, bad.Record.Key, bad.Err)
	}
	r.dropped = append(r.dropped, r.conf.Ledger.Dropped()...) // the next write deletes them
	r.spread(recs)
	return nil
}

func (r *Records) prepare(key *identity.Key, c Change) (ledger.Record, error) {
	if key == nil { // an operator's, revoked since it was asked for
		return ledger.Record{}, ledger.ErrNotAuthorized
	}
	if err := r.maySign(c.Kind); err != nil {
		return ledger.Record{}, err
	}
	if c.Delete {
		return r.conf.Ledger.PrepareDelete(key, c.Kind, c.Key, c.Body)
	}
	return r.conf.Ledger.Prepare(key, c.Kind, c.Key, c.Body)
}

// Prepare signs a record that comes into force when somebody else merges it:
// the grants of a token. Reserve is called with the record's number before the
// record is returned, so that a restart doesn't give that number away again.
func (r *Records) Prepare(key *identity.Key, c Change, reserve func(ledger.Dot) error) (ledger.Record, error) {
	r.signing.Lock()
	defer r.signing.Unlock()
	rec, err := r.prepare(key, c)
	if err != nil {
		return ledger.Record{}, err
	}
	return rec, reserve(rec.Dot)
}

// SaveAgain keeps what the disk had no room for.
func (r *Records) SaveAgain() {
	r.signing.Lock()
	defer r.signing.Unlock()
	r.save()
}

// save keeps what isn't on disk yet. The caller holds signing.
func (r *Records) save() {
	r.dropped = append(r.dropped, r.conf.Ledger.Dropped()...)
	if len(r.unsaved)+len(r.dropped) == 0 {
		return
	}
	err := r.keep(nil)
	if news := r.conf.Health.Set(health.State, "", err); err != nil {
		if news {
			r.conf.Log.Error("records can't be kept; serving from memory and trying again", "err", err)
		}
		r.unsaved = r.View().Held(r.unsaved)
		r.dropped = r.dropped[:min(len(r.dropped), maxDropped)] // the next start finds the others
	}
}

// maxDropped limits what is remembered while the disk is full.
const maxDropped = 1 << 14

// keep writes new records, what isn't on disk yet, and the last numbers: with the
// numbers alone, a restart would lack the records. What is dropped goes with them, never
// before what replaces it is on disk. The caller holds signing.
func (r *Records) keep(recs []ledger.Record) error {
	if err := r.conf.Store.SaveRecords(slices.Concat(r.unsaved, recs), r.conf.Ledger.Last(), r.dropped); err != nil {
		return err
	}
	r.unsaved, r.dropped = nil, nil
	return nil
}

// spread sends records to the other members.
func (r *Records) spread(recs []ledger.Record) {
	for batch := range batches(recs) {
		r.send(message{Records: batch})
	}
	r.conf.Changed()
	if r.conf.Learned != nil {
		r.conf.Learned(recs)
	}
}

// maxMessage is less than half of what gossip broadcasts at once.
const maxMessage = 6 << 20

// batches splits records so that each part, encoded, is at most maxMessage bytes.
func batches(recs []ledger.Record) iter.Seq[[]ledger.Record] {
	return func(yield func([]ledger.Record) bool) {
		first, size := 0, 0
		for i := range recs {
			n := encodedSize(&recs[i])
			if size+n > maxMessage && i > first {
				if !yield(recs[first:i]) {
					return
				}
				first, size = i, 0
			}
			size += n
		}
		if first < len(recs) {
			yield(recs[first:])
		}
	}
}

// encodedSize is at least the length of a record's JSON.
func encodedSize(r *ledger.Record) int {
	const names, dot = 256, 128
	return names + 6*len(r.Key) + len(r.Body) + dot*(1+len(r.Supersedes)) + 2*(len(r.Signer)+len(r.Signature))
}

func (r *Records) send(m message) {
	payload, err := json.Marshal(m)
	if err != nil {
		r.conf.Log.Error("a message to the other members can't be encoded", "err", err)
		return
	}
	r.sending.Lock()
	defer r.sending.Unlock()
	if r.broadcast == nil {
		r.waiting = append(r.waiting, payload)
		return
	}
	r.broadcast(payload)
}

// Connect gives the way to the other members, once gossip has begun. broadcast
// must not block.
func (r *Records) Connect(broadcast func(payload []byte)) {
	r.sending.Lock()
	defer r.sending.Unlock()
	if !r.isOpen() {
		r.awaitMember()
	}
	r.broadcast = broadcast
	for _, payload := range r.waiting {
		broadcast(payload)
	}
	r.waiting = nil
}
