// SPDX-License-Identifier: Apache-2.0

// Package store is a node's database: the ledger's records and last numbers, service
// numbers, spent tokens, services registered by command, and small settings. It
// must not interpret any of them.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrLocked means that another daemon has the state directory open.
var ErrLocked = errors.New("the state directory is in use by another tacitd")

const (
	records  = "records"  // ledger.Record.ID -> record
	seen     = "seen"     // signer -> last number
	numbers  = "numbers"  // service name -> number
	spent    = "spent"    // token id -> time of redemption
	services = "services" // instance id -> definition
	settings = "settings" // name -> bytes
)

// Store is one bbolt file. Every method is one transaction.
type Store struct{ db *bbolt.DB }

// Open opens or creates dir/state.db, and dir with mode 0700. It returns ErrLocked
// after waiting a second.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	path := filepath.Join(dir, "state.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s: stop it first, or use another --state-dir", ErrLocked, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{db: db}
	if err := s.makeBuckets(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) makeBuckets() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{records, seen, numbers, spent, services, settings} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return fmt.Errorf("state: bucket %s: %w", name, err)
			}
		}
		return nil
	})
}

// Close releases the file and its lock.
func (s *Store) Close() error { return s.db.Close() }

// Set stores a small setting.
func (s *Store) Set(name string, value []byte) error { return s.put(settings, name, value) }

// Get returns a setting, or nil if it was never set.
func (s *Store) Get(name string) ([]byte, error) {
	var out []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		out = append(out, tx.Bucket([]byte(settings)).Get([]byte(name))...)
		return nil
	})
	return out, err
}

func (s *Store) put(bucket, key string, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).Put([]byte(key), value)
	})
}

func (s *Store) each(bucket string, f func(key string, value []byte) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error { return f(string(k), v) })
	})
}

// PutService stores the definition of one instance that was registered by command.
func (s *Store) PutService(id string, definition any) error {
	text, err := json.Marshal(definition)
	if err != nil {
		return fmt.Errorf("state: service %s: %w", id, err)
	}
	return s.put(services, id, text)
}

// DeleteService removes the definition of one instance.
func (s *Store) DeleteService(id string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(services)).Delete([]byte(id)) })
}

// Services calls f with the JSON of every stored definition.
func (s *Store) Services(f func(id string, text []byte) error) error { return s.each(services, f) }

// Spend marks a token as used, durably, before anything is issued for it. It returns
// false if the token was already spent.
func (s *Store) Spend(token string, now time.Time) (first bool, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(spent))
		if b.Get([]byte(token)) != nil {
			return nil
		}
		first = true
		return b.Put([]byte(token), []byte(now.UTC().Format(time.RFC3339)))
	})
	return first && err == nil, err
}

// Spent reports whether a token is spent.
func (s *Store) Spent(token string) (bool, error) {
	found := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		found = tx.Bucket([]byte(spent)).Get([]byte(token)) != nil
		return nil
	})
	return found, err
}
