// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"tacit/identity"
	"tacit/policy/ledger"
)

func dotKey(d ledger.Dot) []byte { return fmt.Appendf(nil, "%s/%020d", d.Signer, d.Seq) }

// SaveRecords stores changed records and the seen ranges, in one transaction. It
// deletes the records that they supersede, but only those of the same signer: a
// record of another signer counts again if the superseding signer is revoked.
func (s *Store) SaveRecords(changed []ledger.Record, ranges map[identity.KeyID]ledger.Ranges) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := saveAll(tx.Bucket([]byte(records)), changed); err != nil {
			return err
		}
		for signer, rs := range ranges {
			text, err := json.Marshal(rs)
			if err != nil {
				return fmt.Errorf("state: seen: %w", err)
			}
			if err := tx.Bucket([]byte(seen)).Put([]byte(signer.String()), text); err != nil {
				return err
			}
		}
		return nil
	})
}

// saveAll writes every record before it deletes any, since a record may precede the
// one that it supersedes.
func saveAll(b *bbolt.Bucket, changed []ledger.Record) error {
	for _, r := range changed {
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("state: record %s %s: %w", r.Kind, r.Key, err)
		}
		if err := b.Put(dotKey(r.Dot), text); err != nil {
			return err
		}
	}
	for _, r := range changed {
		if err := dropSuperseded(b, r); err != nil {
			return err
		}
	}
	return nil
}

func dropSuperseded(b *bbolt.Bucket, r ledger.Record) error {
	for _, d := range r.Supersedes {
		if d.Signer != r.Dot.Signer {
			continue
		}
		if err := b.Delete(dotKey(d)); err != nil {
			return err
		}
	}
	return nil
}

// DropRecords deletes all records and seen ranges, after a failed attempt to enter
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

// LoadRecords returns the records and seen ranges that SaveRecords stored.
func (s *Store) LoadRecords() ([]ledger.Record, map[identity.KeyID]ledger.Ranges, error) {
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
	ranges := map[identity.KeyID]ledger.Ranges{}
	err = s.each(seen, func(key string, v []byte) error {
		var id identity.KeyID
		var rs ledger.Ranges
		if err := id.UnmarshalText([]byte(key)); err != nil {
			return fmt.Errorf("state: seen %q: %w", key, err)
		}
		if err := json.Unmarshal(v, &rs); err != nil {
			return fmt.Errorf("state: seen %s: %w", key, err)
		}
		ranges[id] = rs
		return nil
	})
	return recs, ranges, err
}
