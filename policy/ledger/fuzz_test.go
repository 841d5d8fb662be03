// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"encoding/json"
	"testing"

	"tacit/policy"
	"tacit/policy/ledger/statement"
)

// FuzzRecord merges arbitrary bytes, as from gossip: no unsigned record is taken,
// nothing panics, and a well-formed record keeps its bytes when encoded again.
func FuzzRecord(f *testing.F) {
	root := newKey(f)
	l := New(td, root.ID())
	for _, s := range []struct {
		kind Kind
		key  string
		body any
	}{
		{KindRoot, td, statement.Root{Certificate: caCert(f, root)}},
		{KindOperator, root.ID().String(), statement.Operator{Node: "n1", Public: root.Public()}},
	} {
		r, err := l.Sign(root, s.kind, s.key, s.body, false)
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	i := policy.Intention{Source: "web", Destination: "*", Action: policy.Allow}
	body, err := json.Marshal(i)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(Record{Kind: KindIntention, Key: i.Key(), Dot: Dot{root.ID(), 9}, Body: body, Signer: root.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"kind":"instance","key":"n1/a","delete":true,"supersedes":[{"seq":1}]}`))
	before := l.Digest()
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Record
		if json.Unmarshal(text, &r) != nil {
			return
		}
		if changed, _ := l.Merge([]Record{r}); len(changed) > 0 || l.Digest() != before {
			t.Fatalf("a record nobody signed is taken: %s", text)
		}
		checkReencoding(t, l, r)
	})
}

func checkReencoding(t *testing.T, l *Ledger, r Record) {
	if _, err := l.open(r); err != nil {
		return
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Record
	if err := json.Unmarshal(out, &again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.message(td), r.message(td)) {
		t.Fatalf("another message after encoding: %s", out)
	}
}
