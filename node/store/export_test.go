// SPDX-License-Identifier: Apache-2.0

package store

import "go.etcd.io/bbolt"

// PutRow writes what no method of Store writes.
func (s *Store) PutRow(bucket, key, value string) error {
	return s.update(func(tx *bbolt.Tx) error { return bucketOf(tx, bucket).Put([]byte(key), []byte(value)) })
}

// Readable reports whether a file would be given to bbolt as it is.
func Readable(data []byte) bool { return readDatabase(data, false).sound() }
