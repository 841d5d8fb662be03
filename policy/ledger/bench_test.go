// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// large returns 10,000 signed intentions and a ledger that holds them.
func large(b *testing.B) (*Ledger, *identity.Key, []Record) {
	b.Helper()
	root, op := newKey(b), newKey(b)
	l := New(td, root.ID())
	if _, err := l.Sign(root, KindOperator, op.ID().String(), statement.Operator{Node: "n1", Public: op.Public()}, false); err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		in := policy.Intention{Source: identity.Name(fmt.Sprintf("s%d", i)), Destination: "db", Action: policy.Allow}
		if _, err := l.Sign(op, KindIntention, in.Key(), in, false); err != nil {
			b.Fatal(err)
		}
	}
	return l, root, l.Records()
}

func BenchmarkMerge10k(b *testing.B) {
	_, root, recs := large(b)
	for b.Loop() {
		if _, rejected := New(td, root.ID()).Merge(recs); len(rejected) > 0 {
			b.Fatal(rejected[0].Err)
		}
	}
}

func BenchmarkMergeHeld10k(b *testing.B) {
	l, _, recs := large(b)
	for b.Loop() {
		l.Merge(recs)
	}
}

// BenchmarkRevoke10k rebuilds all views each time.
func BenchmarkRevoke10k(b *testing.B) {
	l, root, _ := large(b)
	for b.Loop() {
		id := newKey(b).ID()
		if _, err := l.Sign(root, KindRevocation, id.String(), statement.Revocation{Public: id}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecords10k(b *testing.B) {
	l, _, _ := large(b)
	for b.Loop() {
		l.Records()
	}
}

func BenchmarkDigest10k(b *testing.B) {
	l, _, _ := large(b)
	for b.Loop() {
		l.hashHeads()
	}
}

func BenchmarkGranted(b *testing.B) {
	l, _, _ := large(b)
	for b.Loop() {
		l.Granted("n1", "db")
	}
}
