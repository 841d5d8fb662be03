// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// Sum is a hash over a set of rules that is kept up to date rule by rule, in any
// order: the sum of the rules' hashes, modulo 2^256. The zero value is the empty
// set. It compares what honest nodes hold; whoever may sign rules could construct two
// sets with one sum, and gains nothing by it.
type Sum [4]uint64

// Add adds a rule to the set. Its description doesn't count, since the kernel doesn't
// hold it.
func (s *Sum) Add(i Intention) {
	var carry uint64
	for k, word := range hashOf(i) {
		s[k], carry = bits.Add64(s[k], word, carry)
	}
}

// Remove takes a rule out that was added.
func (s *Sum) Remove(i Intention) {
	var borrow uint64
	for k, word := range hashOf(i) {
		s[k], borrow = bits.Sub64(s[k], word, borrow)
	}
}

func hashOf(i Intention) (out Sum) {
	h := sha256.Sum256([]byte(i.String()))
	for k := range out {
		out[k] = binary.LittleEndian.Uint64(h[8*k:])
	}
	return out
}

// Digest returns 16 hex digits over the rules and the default.
func (s Sum) Digest(def Action) string {
	text := []byte("default " + def.String() + "\n")
	for _, word := range s {
		text = binary.LittleEndian.AppendUint64(text, word)
	}
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:8])
}
