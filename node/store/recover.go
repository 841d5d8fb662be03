// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"

	"tacit/identity"
)

// Recovered says what Open had to do, and what may be missing since.
type Recovered struct {
	Said   []string // one line for each file
	Behind bool     // records may be missing: others must be asked before policy counts
	Lost   bool     // nothing was left of either generation
}

// Damage is what Open had to do, and whether records may be missing since.
func (s *Store) Damage() (said []string, behind bool) { return s.Said, s.Behind }

// Settings that outlive a start which found damage, until what follows is done.
const (
	setBehind = "store/behind"        // records may be missing
	setLess   = "store/numbers-less"  // numbers may be missing
	setFloor  = "store/numbers-floor" // the next number is higher
)

// CaughtUp says that others have told what was lost.
func (s *Store) CaughtUp() error { return s.unset(setBehind) }

func (s *Store) unset(name string) error {
	if v, err := s.Get(name); err != nil || v == nil {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error { return bucketOf(tx, settings).Delete([]byte(name)) })
}

// recall finds what an earlier start left to do.
func (s *Store) recall() error {
	behind, err := s.Get(setBehind)
	if behind != nil && !s.Behind {
		s.Behind, s.Said = true, append(s.Said, "records that an earlier start found lost were not fetched yet")
	}
	return err
}

// prepare makes sure that path holds a database that bbolt can trust.
func (s *Store) prepare(path string) error {
	data, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	copied, bad := s.fromCopy()
	if bad != nil {
		s.Said = append(s.Said, strings.ReplaceAll(bad.Error(), "\n", "; ")+"; it is written anew")
	}
	others, err := os.ReadDir(filepath.Join(s.dir, CopiesDir))
	if err != nil {
		return err
	}
	if missing && len(others) == 0 {
		return replaceDatabase(path, nil)
	}
	first := copied == nil && bad == nil
	g := readDatabase(data, first)
	if g.sound() {
		return s.upgrade(path, g, first)
	}
	return s.restore(path, missing, g, copied)
}

// upgrade gives a database sums that was written before there were any.
func (s *Store) upgrade(path string, g generation, first bool) error {
	if data, err := os.ReadFile(path); err != nil || !first || readDatabase(data, false).sound() {
		return err
	}
	return replaceDatabase(path, g.contents)
}

// restore makes the database anew from what is left.
func (s *Store) restore(path string, missing bool, g generation, copied contents) error {
	s.Lost = copied[records] == nil && len(g.contents) == 0
	if g.touches(services) && copied[services] == nil {
		s.Said = append(s.Said, "services registered by command may be missing, and their ports open to all: see tacit services, and register them again")
	}
	s.Behind = g.touches(records, seen)
	g.add(copied)
	g.mark(setBehind, s.Behind)
	g.mark(setLess, g.touches(numbers))
	said := path + " was lost"
	if !missing {
		aside, err := identity.Aside(path, func() error { return replaceDatabase(path, g.contents) })
		if err != nil {
			return fmt.Errorf("it is damaged (%s), and can't be written anew: %w", g.said(), err)
		}
		said = fmt.Sprintf("%s was damaged (%s) and is kept as %s", path, g.said(), aside)
	} else if err := replaceDatabase(path, g.contents); err != nil {
		return err
	}
	s.Said = append(s.Said, said+"; "+s.source(copied))
	return nil
}

func (s *Store) source(copied contents) string {
	switch {
	case s.Lost:
		return "no copy was left of it either"
	case copied == nil:
		return "what can be read is in use; there was no copy"
	}
	return "what can be read of it and of its copy is in use"
}

func (g generation) said() string {
	var all []string
	for _, name := range append([]string{whole}, buckets...) {
		if err := g.damage[name]; err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			all = append(all, first)
		}
	}
	return strings.Join(all, ", ")
}

// replaceDatabase writes a database and puts it in path's place at once.
func replaceDatabase(path string, all contents) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := writeDatabase(next, all)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	return identity.SyncDir(filepath.Dir(path))
}
