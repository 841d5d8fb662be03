// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"tacit/identity"
	"tacit/policy/ledger"
)

// CopiesDir is the folder, in the state directory, of the second generation of what
// a node can't start without.
const CopiesDir = "copies"

// The copies that this package writes itself.
const (
	copyState    = "state"    // what state.db holds
	copyNumbers  = "numbers"  // no number above this one was ever given
	copyServices = "services" // those registered by command, whose ports must not open, and all numbers, which live sockets carry
)

// ErrDamaged means that a copy isn't what was written.
var ErrDamaged = errors.New("the file is damaged")

// Keep writes a small file into the folder of copies, with its sum: for what must
// be known when state.db is lost. It is written only where it is new.
func (s *Store) Keep(name string, data []byte) error {
	if old, err := s.Kept(name); err == nil && old != nil && bytes.Equal(old, data) {
		return nil
	}
	sum := sha256.Sum256(data)
	return identity.WriteFile(s.copyPath(name), append(sum[:], data...), 0o600)
}

// Kept returns what Keep wrote, nil for nothing. Errors: ErrDamaged.
func (s *Store) Kept(name string) ([]byte, error) {
	text, err := os.ReadFile(s.copyPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(text) < sha256.Size || sha256.Sum256(text[sha256.Size:]) != [sha256.Size]byte(text) {
		return nil, fmt.Errorf("%s: %w", s.copyPath(name), ErrDamaged)
	}
	return text[sha256.Size:], nil
}

func (s *Store) copyPath(name string) string { return filepath.Join(s.dir, CopiesDir, name) }

// copying is how the second generation is written: by one at a time.
type copying struct {
	running sync.WaitGroup // copies that no caller waits for

	mu   sync.Mutex // guards what follows
	at   time.Time  // of the last copy
	took time.Duration
}

// maxShare is how much longer than copying the time between two copies is, where
// policy changes again and again.
const maxShare = 10

// Copy writes the second generation of state.db, where the first has changed.
func (s *Store) Copy() error {
	s.copying.mu.Lock()
	defer s.copying.mu.Unlock()
	if !s.changed.Swap(false) {
		return nil
	}
	began := time.Now()
	err := s.copy()
	s.copying.at, s.copying.took = began, time.Since(began)
	if err != nil {
		s.changed.Store(true)
		return fmt.Errorf("the second copy of state.db can't be written: %w", err)
	}
	return nil
}

// copyPolicy has the second generation hold policy soon after it is in force: a node
// that no other can tell what it lost must not lose any. Nodes and instances wait
// for the next Copy, and so does all where there is much to copy again and again.
func (s *Store) copyPolicy(changed []ledger.Record) {
	if !slices.ContainsFunc(changed, func(r ledger.Record) bool { return r.Kind != ledger.KindNode && r.Kind != ledger.KindInstance }) {
		return
	}
	s.copying.mu.Lock()
	due := time.Since(s.copying.at) > maxShare*s.copying.took
	s.copying.mu.Unlock()
	if due {
		s.copying.running.Go(func() { _ = s.Copy() }) // the next Copy tries again, and its caller reports it
	}
}

// copy writes what all buckets hold, and once more what those do that no other node has.
func (s *Store) copy() error {
	return errors.Join(s.copyTo(copyState, buckets...), s.copyTo(copyServices, services, numbers))
}

func (s *Store) copyTo(name string, buckets ...string) error {
	var all contents
	err := s.db.Load().View(func(tx *bbolt.Tx) (err error) {
		all, err = readContents(tx, buckets)
		return err
	})
	if err != nil {
		return err
	}
	text, err := encode(all)
	if err != nil {
		return err
	}
	return s.Keep(name, text)
}

// keepServices writes a change of the services, or of their numbers, at once. Where it can't, Copy tries
// again, and its caller reports it.
func (s *Store) keepServices() {
	s.copying.mu.Lock()
	defer s.copying.mu.Unlock()
	_ = s.copyTo(copyServices, services, numbers)
}

// fromCopy returns the contents of the second generation, nil where there is none.
func (s *Store) fromCopy() (contents, error) {
	all, err := s.readCopy(copyState)
	exact, more := s.readCopy(copyServices)
	switch {
	case exact == nil:
	case all == nil:
		all = exact
	default:
		all[services], all[numbers] = exact[services], exact[numbers] // they are the newer ones
	}
	return all, errors.Join(err, more)
}

func (s *Store) readCopy(name string) (contents, error) {
	text, err := s.Kept(name)
	if err != nil || text == nil {
		return nil, err
	}
	all, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", s.copyPath(name), ErrDamaged, err)
	}
	return all, nil
}
