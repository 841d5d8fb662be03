// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
)

// contents are the entries of all buckets, by bucket and key.
type contents map[string]map[string][]byte

// generation is what could be read from a file.
type generation struct {
	contents
	damage map[string]error // by bucket, or by whole
}

// whole stands for what isn't a bucket's.
const whole = ""

func (g generation) sound() bool { return len(g.damage) == 0 }

// note remembers the first damage of a bucket.
func (g generation) note(bucket string, err error) {
	if g.damage[bucket] == nil && err != nil {
		g.damage[bucket] = err
	}
}

// touches reports whether any of the buckets may lack something.
func (g generation) touches(buckets ...string) bool {
	return slices.ContainsFunc(append(buckets, whole), func(b string) bool { return g.damage[b] != nil })
}

// readDatabase reads a bbolt file, however damaged it is. With legacy, values that
// have no sums yet are taken as they are.
func readDatabase(data []byte, legacy bool) generation {
	g := generation{contents{}, map[string]error{}}
	p, both, err := newPages(data)
	if err != nil {
		g.note(whole, err)
		return g
	}
	if uint64(len(data)) < p.meta.high*p.meta.size {
		g.note(whole, errors.New("its end is missing"))
	}
	if !both {
		g.note(whole, errors.New("one of its first pages is damaged"))
	}
	found := map[string]element{}
	top := walker{p: p, f: func(e element) { found[string(e.key)] = e }}
	g.note(whole, top.walk(p.meta.root))
	for _, name := range buckets {
		e, ok := found[name]
		if !ok || !e.bucket {
			g.note(name, fmt.Errorf("bucket %s is missing", name))
			continue
		}
		g.readBucket(p, name, e, legacy)
	}
	if g.sound() {
		g.note(whole, p.free())
	}
	return g
}

func (g generation) readBucket(p *pages, name string, e element, legacy bool) {
	all, unsealed := map[string][]byte{}, map[string][]byte{}
	var sum uint64
	want, err := p.bucket(e, func(e element) {
		value, one, ok := unseal(name, e.key, e.value)
		if !ok || e.bucket {
			unsealed[string(e.key)] = bytes.Clone(e.value)
			return
		}
		all[string(e.key)] = bytes.Clone(value)
		sum ^= one
	})
	g.note(name, err)
	switch {
	case legacy && want == 0 && len(all) == 0:
		all = unsealed
	case len(unsealed) > 0:
		g.note(name, fmt.Errorf("%d entries of %s are damaged", len(unsealed), name))
	case sum != want:
		g.note(name, fmt.Errorf("entries of %s are missing", name))
	}
	g.contents[name] = all
}

// add takes over what another generation has in the damaged buckets.
func (g generation) add(other contents) {
	for _, name := range buckets {
		if !g.touches(name) {
			continue
		}
		if g.contents[name] == nil {
			g.contents[name] = map[string][]byte{}
		}
		for key, value := range other[name] {
			if _, has := g.contents[name][key]; !has {
				g.contents[name][key] = value
			}
		}
	}
}

// mark sets a setting.
func (g generation) mark(name string, is bool) {
	if !is {
		return
	}
	if g.contents[settings] == nil {
		g.contents[settings] = map[string][]byte{}
	}
	g.contents[settings][name] = []byte{1}
}

// writeDatabase makes a bbolt file.
func writeDatabase(path string, all contents) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return fmt.Errorf("bucket %s: %w", name, err)
			}
			b := bucketOf(tx, name)
			for key, value := range all[name] {
				if err := b.Put([]byte(key), value); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// readContents reads what buckets of an open database hold.
func readContents(tx *bbolt.Tx, buckets []string) (contents, error) {
	all := contents{}
	for _, name := range buckets {
		all[name] = map[string][]byte{}
		err := bucketOf(tx, name).ForEach(func(key, value []byte) error {
			all[name][string(key)] = bytes.Clone(value)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func encode(all contents) ([]byte, error) {
	var out bytes.Buffer
	err := gob.NewEncoder(&out).Encode(all)
	return out.Bytes(), err
}

func decode(text []byte) (all contents, err error) {
	err = gob.NewDecoder(bytes.NewReader(text)).Decode(&all)
	return all, err
}
