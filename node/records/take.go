// SPDX-License-Identifier: Apache-2.0

package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"tacit/policy/ledger"
)

const (
	batchSize  = 64   // records merged at a time: a change by this node's operator waits for one batch at most
	maxForged  = 8    // in one message; the rest of it isn't read
	maxWaiting = 4096 // records of one message that wait for others which authorise them
	maxRounds  = 8    // in which they are tried again
)

// Take merges records of others: in force at once, kept on disk, and passed on.
func (r *Records) Take(recs []ledger.Record) {
	t := taking{Records: r}
	for batch := range slices.Chunk(recs, batchSize) {
		t.take(batch)
	}
	t.end()
}

// taking is one message's records on their way into the ledger.
type taking struct {
	*Records
	changed []ledger.Record
	waiting []ledger.Record // may be authorised by records that follow
	forged  int
}

// take merges a batch, and lets others write between two.
func (t *taking) take(recs []ledger.Record) {
	rejected := t.merge(recs)
	t.noteQuotas(recs, rejected)
	for _, bad := range rejected {
		switch {
		case errors.Is(bad.Err, ledger.ErrSignature):
			t.forged++
		case errors.Is(bad.Err, ledger.ErrNotAuthorized) && len(t.waiting) < maxWaiting:
			t.waiting = append(t.waiting, bad.Record)
		}
		t.conf.Log.Debug("record refused", "kind", bad.Record.Kind, "key", bad.Record.Key, "err", bad.Err)
	}
}

func (t *taking) merge(recs []ledger.Record) []ledger.Rejection {
	t.signing.Lock()
	defer t.signing.Unlock()
	changed, rejected := t.conf.Ledger.Merge(recs)
	if len(changed) > 0 {
		t.changed = append(t.changed, changed...)
		t.unsaved = append(t.unsaved, changed...)
		t.save()
	}
	return rejected
}

// end tries those that wait again while that helps, and passes on what is new.
func (t *taking) end() {
	before := 0
	for round := 0; round < maxRounds && len(t.waiting) > 0 && len(t.changed) > before && t.forged < maxForged; round++ {
		again := t.waiting
		t.waiting, before = nil, len(t.changed)
		for batch := range slices.Chunk(again, batchSize) {
			t.take(batch)
		}
	}
	if len(t.changed) > 0 {
		t.spread(t.changed)
		t.noteReturned(t.changed)
	}
}

// takeFrom merges the records of an encoded message as it reads them, so that a long
// message takes little more memory than its text. It returns the rest of the message,
// and how many records were forged.
func (r *Records) takeFrom(payload []byte) (rest message, forged int, err error) {
	t := taking{Records: r}
	others, err := t.read(json.NewDecoder(bytes.NewReader(payload)))
	t.end()
	if err == nil && len(others) > 0 {
		var text []byte
		if text, err = json.Marshal(others); err == nil {
			err = json.Unmarshal(text, &rest)
		}
	}
	return rest, t.forged, err
}

// errForged ends the reading of a message.
var errForged = errors.New("too many forged records")

// read merges the records of a message, and returns its other fields.
func (t *taking) read(d *json.Decoder) (others map[string]json.RawMessage, err error) {
	if err := delim(d, '{'); err != nil {
		return nil, err
	}
	others = map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		if name == "records" {
			err = t.readRecords(d)
		} else {
			var v json.RawMessage
			err = d.Decode(&v)
			others[fmt.Sprint(name)] = v
		}
		if err != nil {
			return nil, err
		}
	}
	return others, delim(d, '}')
}

func (t *taking) readRecords(d *json.Decoder) error {
	if err := delim(d, '['); err != nil {
		return err
	}
	batch := make([]ledger.Record, 0, batchSize)
	for d.More() {
		var rec ledger.Record
		if err := d.Decode(&rec); err != nil {
			return err
		}
		if batch = append(batch, rec); len(batch) < batchSize {
			continue
		}
		if t.take(batch); t.forged >= maxForged {
			return errForged
		}
		batch = batch[:0]
	}
	t.take(batch)
	return delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("%v where a %v belongs", got, want)
	}
	return err
}
