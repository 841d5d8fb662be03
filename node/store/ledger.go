// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"

	"tacit/identity"
	"tacit/policy/ledger"
)

// SaveRecords stores changed records and the last number of each signer, and deletes
// the dropped records by their IDs, in one transaction: no crash leaves a record deleted
// without what replaces it.
func (s *Store) SaveRecords(changed []ledger.Record, last map[identity.KeyID]uint64, dropped []string) error {
	defer s.copyPolicy(changed)
	return s.update(func(tx *bbolt.Tx) error {
		b := bucketOf(tx, records)
		for _, r := range changed {
			text, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("state: record %s %s: %w", r.Kind, r.Key, err)
			}
			if err := b.Put([]byte(r.ID()), text); err != nil {
				return err
			}
		}
		for _, id := range dropped { // last: a changed record may have been replaced since
			if err := b.Delete([]byte(id)); err != nil {
				return err
			}
		}
		return saveLast(bucketOf(tx, seen), last)
	})
}

func saveLast(b bucket, last map[identity.KeyID]uint64) error {
	for signer, n := range last {
		if err := b.Put([]byte(signer.String()), strconv.AppendUint(nil, n, 10)); err != nil {
			return err
		}
	}
	return nil
}

// DropRecords deletes all records and last numbers, after a failed attempt to enter
// a mesh.
func (s *Store) DropRecords() error {
	return s.update(func(tx *bbolt.Tx) error {
		for _, name := range []string{records, seen} {
			if err := tx.DeleteBucket([]byte(name)); err != nil {
				return fmt.Errorf("state: bucket %s: %w", name, err)
			}
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return fmt.Errorf("state: bucket %s: %w", name, err)
			}
		}
		return nil
	})
}

// LoadRecords returns the records and last numbers that SaveRecords stored. One that
// can't be read is left out: Behind.
func (s *Store) LoadRecords() ([]ledger.Record, map[identity.KeyID]uint64, error) {
	var recs []ledger.Record
	err := s.each(records, func(key string, v []byte) error {
		var r ledger.Record
		if err := json.Unmarshal(v, &r); err != nil {
			s.leftOut(fmt.Errorf("record %s: %w", key, err))
			return nil
		}
		recs = append(recs, r)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	last := map[identity.KeyID]uint64{}
	err = s.each(seen, func(key string, v []byte) error {
		var id identity.KeyID
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err := errors.Join(id.UnmarshalText([]byte(key)), err); err != nil {
			s.leftOut(fmt.Errorf("seen %q: %w", key, err))
			return nil
		}
		last[id] = n
		return nil
	})
	return recs, last, err
}

func (s *Store) leftOut(err error) {
	s.Behind, s.Said = true, append(s.Said, fmt.Sprintf("state.db: left out: %v", err))
}
