// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
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
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(records))
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
		return saveLast(tx.Bucket([]byte(seen)), last)
	})
}

func saveLast(b *bbolt.Bucket, last map[identity.KeyID]uint64) error {
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
	return s.db.Update(func(tx *bbolt.Tx) error {
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

// LoadRecords returns the records and last numbers that SaveRecords stored.
func (s *Store) LoadRecords() ([]ledger.Record, map[identity.KeyID]uint64, error) {
	var recs []ledger.Record
	err := s.each(records, func(key string, v []byte) error {
		var r ledger.Record
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("state: record %s: %w", key, err)
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
		if err := id.UnmarshalText([]byte(key)); err != nil {
			return fmt.Errorf("state: seen %q: %w", key, err)
		}
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return fmt.Errorf("state: seen %s: %w", key, err)
		}
		last[id] = n
		return nil
	})
	return recs, last, err
}
