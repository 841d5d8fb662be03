// SPDX-License-Identifier: Apache-2.0

// Package store is a node's database: the ledger's records and last numbers, service
// numbers, spent tokens, services registered by command, and small settings. There
// are two generations of it, both with sums. It must not interpret any of them.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
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

// buckets are all of them, in the order in which they are made.
var buckets = []string{records, seen, numbers, spent, services, settings}

// Store is one bbolt file, and the copies beside it. Every method is one
// transaction.
type Store struct {
	db   atomic.Pointer[bbolt.DB]
	dir  string
	lock *os.File
	Recovered
	copying copying
	changed atomic.Bool // since the second generation was written
}

const (
	fileState = "state.db"
	lockWait  = time.Second
)

// Open opens or creates dir/state.db, and dir with mode 0700. A database that is
// damaged is put aside, and made anew from what can be read of it and of its copy:
// Recovered says so. It returns ErrLocked after waiting a second.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, CopiesDir), 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s := &Store{dir: dir}
	var err error
	if s.lock, err = lockFolder(dir); err != nil {
		return nil, err
	}
	s.changed.Store(true)
	path := filepath.Join(dir, fileState)
	if err := s.prepare(path); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.lock.Close())
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, s.recall()
}

func (s *Store) open() error {
	path := filepath.Join(s.dir, fileState)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	s.db.Store(db)
	return nil
}

// Suspend closes the database, for another process: until Resume, everything fails as it
// does while a disk is out of order.
func (s *Store) Suspend() error {
	s.copying.running.Wait()
	return errors.Join(s.db.Load().Close(), s.lock.Close())
}

// Resume opens the database again, to which the other process has added nothing that
// this one must know.
func (s *Store) Resume() (err error) {
	if s.lock, err = lockFolder(s.dir); err != nil {
		return err
	}
	return s.open()
}

// lockFolder keeps other daemons out until the file is closed.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		case time.Now().After(end):
			return nil, errors.Join(fmt.Errorf("%w: %s: stop it first, or use another --state-dir", ErrLocked, dir), f.Close())
		}
	}
}

// Close writes the second generation, and releases the file and its lock.
func (s *Store) Close() error {
	s.copying.running.Wait()
	err := s.Copy()
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		err = nil // closed before
	}
	err = errors.Join(err, s.db.Load().Close(), s.lock.Close())
	if errors.Is(err, os.ErrClosed) {
		return nil // suspended
	}
	return err
}

// update is one change of the database.
func (s *Store) update(f func(tx *bbolt.Tx) error) error {
	err := s.db.Load().Update(f)
	if err == nil {
		s.changed.Store(true)
	}
	return err
}

// Set stores a small setting.
func (s *Store) Set(name string, value []byte) error { return s.put(settings, name, value) }

// Get returns a setting, or nil if it was never set.
func (s *Store) Get(name string) ([]byte, error) {
	var out []byte
	err := s.db.Load().View(func(tx *bbolt.Tx) error {
		out = append(out, bucketOf(tx, settings).Get([]byte(name))...)
		return nil
	})
	return out, err
}

func (s *Store) put(bucket, key string, value []byte) error {
	return s.update(func(tx *bbolt.Tx) error {
		return bucketOf(tx, bucket).Put([]byte(key), value)
	})
}

func (s *Store) each(bucket string, f func(key string, value []byte) error) error {
	return s.db.Load().View(func(tx *bbolt.Tx) error {
		return bucketOf(tx, bucket).ForEach(func(k, v []byte) error { return f(string(k), v) })
	})
}

// PutService stores the definition of one instance that was registered by command.
func (s *Store) PutService(id string, definition any) error {
	text, err := json.Marshal(definition)
	if err != nil {
		return fmt.Errorf("state: service %s: %w", id, err)
	}
	defer s.keepServices()
	return s.put(services, id, text)
}

// DeleteService removes the definition of one instance.
func (s *Store) DeleteService(id string) error {
	defer s.keepServices()
	return s.update(func(tx *bbolt.Tx) error { return bucketOf(tx, services).Delete([]byte(id)) })
}

// Services calls f with the JSON of every stored definition.
func (s *Store) Services(f func(id string, text []byte) error) error { return s.each(services, f) }

// Spend marks a token as used, durably, before anything is issued for it. It returns
// false if the token was already spent.
func (s *Store) Spend(token string, now time.Time) (first bool, err error) {
	err = s.update(func(tx *bbolt.Tx) error {
		b := bucketOf(tx, spent)
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
	err := s.db.Load().View(func(tx *bbolt.Tx) error {
		found = bucketOf(tx, spent).Get([]byte(token)) != nil
		return nil
	})
	return found, err
}
