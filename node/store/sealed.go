// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// sealSize is that of the sum that follows each value on disk. bbolt has sums of
// its first two pages only.
const sealSize = 8

// sumOf is the sum of one entry, its place included.
func sumOf(bucket string, key, value []byte) uint64 {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00", bucket, len(key))
	_, _ = h.Write(key)
	_, _ = h.Write(value)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

func seal(bucket string, key, value []byte) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, len(value)+sealSize), value...), sumOf(bucket, key, value))
}

// unseal returns an entry's value and its sum.
func unseal(bucket string, key, raw []byte) (value []byte, sum uint64, ok bool) {
	if len(raw) < sealSize {
		return nil, 0, false
	}
	value, sum = raw[:len(raw)-sealSize], binary.BigEndian.Uint64(raw[len(raw)-sealSize:])
	return value, sum, sum == sumOf(bucket, key, value)
}

// bucket is a bucket whose entries have sums. Its sequence is the XOR of them, so
// that an entry that is missing is noticed, too.
type bucket struct {
	*bbolt.Bucket
	name string
}

func bucketOf(tx *bbolt.Tx, name string) bucket { return bucket{tx.Bucket([]byte(name)), name} }

// Get returns a value, or nil.
func (b bucket) Get(key []byte) []byte {
	value, _, ok := unseal(b.name, key, b.Bucket.Get(key))
	if !ok {
		return nil
	}
	return value
}

// Put sets a value.
func (b bucket) Put(key, value []byte) error {
	raw := seal(b.name, key, value)
	_, sum, _ := unseal(b.name, key, raw)
	if err := b.SetSequence(b.without(key) ^ sum); err != nil {
		return err
	}
	return b.Bucket.Put(key, raw)
}

// Delete removes a value, if it is there.
func (b bucket) Delete(key []byte) error {
	if err := b.SetSequence(b.without(key)); err != nil {
		return err
	}
	return b.Bucket.Delete(key)
}

// without is the bucket's sum without one entry.
func (b bucket) without(key []byte) uint64 {
	sum := b.Sequence()
	if _, old, ok := unseal(b.name, key, b.Bucket.Get(key)); ok {
		sum ^= old
	}
	return sum
}

// ForEach calls f with each entry, until it fails.
func (b bucket) ForEach(f func(key, value []byte) error) error {
	return b.Bucket.ForEach(func(key, raw []byte) error {
		value, _, ok := unseal(b.name, key, raw)
		if !ok {
			return fmt.Errorf("state: %s %q is damaged on disk; it is left out at the next start", b.name, key)
		}
		return f(key, value)
	})
}
