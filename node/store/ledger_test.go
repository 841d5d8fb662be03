// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/store"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// signer returns a key ID that is easy to recognise in a failure.
func signer(b byte) identity.KeyID { return identity.KeyID{b} }

func record(by byte, seq uint64, supersedes ...ledger.Dot) ledger.Record {
	return ledger.Record{
		Kind: ledger.KindIntention, Key: "web>db", Dot: ledger.Dot{Signer: signer(by), Seq: seq}, Supersedes: supersedes,
		Body: json.RawMessage(`{"description":"a \u003c b"}`), Signer: []byte{by}, Signature: []byte{1, 2, 3},
	}
}

func dots(recs []ledger.Record) string {
	var out []string
	for _, r := range recs {
		out = append(out, fmt.Sprintf("%d/%d", r.Dot.Signer[0], r.Dot.Seq))
	}
	return strings.Join(out, " ")
}

func load(t *testing.T, s *store.Store) ([]ledger.Record, map[identity.KeyID]uint64) {
	t.Helper()
	recs, seen, err := s.LoadRecords()
	if err != nil {
		t.Fatal(err)
	}
	return recs, seen
}

func TestRecordsSurvive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if recs, seen := load(t, s); len(recs) != 0 || len(seen) != 0 {
		t.Errorf("a new store holds %v, %v", recs, seen)
	}
	want := []ledger.Record{record(1, 9), record(1, 10), record(2, 1, ledger.Dot{Signer: signer(1), Seq: 9})}
	last := map[identity.KeyID]uint64{signer(1): 10, signer(2): 1<<63 - 1}
	if err := s.SaveRecords(want, last, nil); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	recs, seen := load(t, s)
	if !reflect.DeepEqual(recs, want) {
		t.Errorf("records\n%+v, want\n%+v", recs, want)
	}
	if !reflect.DeepEqual(seen, last) {
		t.Errorf("seen %v, want %v", seen, last)
	}
}

// TestDropRecords: other state stays, and new records can be stored.
func TestDropRecords(t *testing.T) {
	s := open(t, t.TempDir())
	last := map[identity.KeyID]uint64{signer(1): 1}
	err := errors.Join(s.SaveRecords([]ledger.Record{record(1, 1)}, last, nil), s.Set("node", []byte("n1")), s.DropRecords())
	if err != nil {
		t.Fatal(err)
	}
	if recs, seen := load(t, s); len(recs)+len(seen) != 0 {
		t.Errorf("kept %v, %v", recs, seen)
	}
	if name, err := s.Get("node"); err != nil || string(name) != "n1" {
		t.Errorf("node is %q, %v", name, err)
	}
	if err := s.SaveRecords([]ledger.Record{record(2, 7)}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if recs, _ := load(t, s); dots(recs) != "2/7" {
		t.Errorf("kept %s", dots(recs))
	}
}

// TestDroppedRecords: what is dropped goes with what replaces it, also where both are
// new. Of records with one number, each is kept.
func TestDroppedRecords(t *testing.T) {
	one, two := record(1, 1), record(1, 2)
	twin := record(1, 1)
	twin.Key = "web>cache"
	for name, c := range map[string]struct {
		batches [][]ledger.Record
		dropped []ledger.Record // with the last batch
		want    string
	}{
		"replaced":                     {[][]ledger.Record{{one}, {two}}, []ledger.Record{one}, "1/2"},
		"in one batch":                 {[][]ledger.Record{{one, two}}, []ledger.Record{one}, "1/2"},
		"saved twice is saved once":    {[][]ledger.Record{{one}, {one}}, nil, "1/1"},
		"one that was never saved":     {[][]ledger.Record{{two}}, []ledger.Record{one}, "1/2"},
		"numbers are ordered as such":  {[][]ledger.Record{{record(1, 10), record(1, 9)}}, nil, "1/9 1/10"},
		"the largest number of signer": {[][]ledger.Record{{record(1, 1<<64-1), one}}, nil, "1/1 1/18446744073709551615"},
		"twins":                        {[][]ledger.Record{{one}, {twin}}, nil, "1/1 1/1"},
		"one twin goes":                {[][]ledger.Record{{one, twin}, {two}}, []ledger.Record{one}, "1/1 1/2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			for k, batch := range c.batches {
				var ids []string
				for _, r := range c.dropped {
					if k == len(c.batches)-1 {
						ids = append(ids, r.ID())
					}
				}
				if err := s.SaveRecords(batch, nil, ids); err != nil {
					t.Fatal(err)
				}
			}
			if recs, _ := load(t, s); dots(recs) != c.want {
				t.Errorf("kept %s, want %s", dots(recs), c.want)
			}
		})
	}
}

// TestSignaturesSurvive: signed records are loaded byte for byte.
func TestSignaturesSurvive(t *testing.T) {
	root, err := identity.CreateAuthority("mesh.test", "n1", t.TempDir(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() *ledger.Ledger { return ledger.New("mesh.test", root.RootKey().ID()) }
	l, s := fresh(), open(t, t.TempDir())
	operator, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	body := statement.Operator{Node: "n1", Public: operator.Public()}
	if _, err := l.Sign(root.RootKey(), ledger.KindOperator, operator.ID().String(), body, false); err != nil {
		t.Fatal(err)
	}
	rule := json.RawMessage(`{"source":"web","destination":"db","action":"allow","description":"<&> \u2028 ü"}`)
	if _, err := l.Sign(operator, ledger.KindIntention, "web>db", rule, false); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveRecords(l.Records(), l.Last(), nil); err != nil {
		t.Fatal(err)
	}
	again := fresh()
	if err := again.Restore(load(t, s)); err != nil {
		t.Fatal(err)
	}
	if again.Digest() != l.Digest() || len(again.Intentions()) != 1 {
		t.Errorf("after restoring: %v", again.Intentions())
	}
}

// TestDamagedRowsAreLeftOut: a row that means nothing is said and left out, and no
// number is given a second time.
func TestDamagedRowsAreLeftOut(t *testing.T) {
	id := signer(7).String()
	for name, c := range map[string]struct {
		bucket, key, value string
		want               []string
	}{
		"record":           {"records", "dot-1", "{", []string{"record", "dot-1"}},
		"seen, key":        {"seen", "no-hex", "1", []string{"seen", "no-hex"}},
		"seen, value":      {"seen", id, "{", []string{"seen", id}},
		"number, short":    {"numbers", "api", "\x01", []string{"number", "api"}},
		"number, nobody's": {"numbers", "api", "\x00\x00\x00\x00", []string{"number", "api"}},
		"number, twice":    {"numbers", "web2", "\x00\x00\x00\x01", []string{"number", "web", "web2"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if n := numbersOf(t, s); n.Number("web") != 1 {
				t.Fatal("the first number isn't 1")
			}
			if err := s.PutRow(c.bucket, c.key, c.value); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s, dir)
			var log bytes.Buffer
			n, err := s.Numbers(slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil || n.Number("new") <= 1 {
				t.Fatalf("numbers: %v, %v", n.Number("new"), err)
			}
			recs, _, err := s.LoadRecords()
			if err != nil || len(recs) > 0 {
				t.Fatalf("records %v, %v", recs, err)
			}
			said := log.String() + strings.Join(s.Said, " ")
			for _, part := range c.want {
				if !strings.Contains(said, part) {
					t.Errorf("%q doesn't name %q", said, part)
				}
			}
			if c.bucket != "numbers" && !s.Behind {
				t.Error("records are missing, and nobody is told")
			}
		})
	}
}

// TestNumbersEnd: after the last number, Number returns 0.
func TestNumbersEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.PutRow("numbers", "last", "\xff\xff\xff\xff"); err != nil {
		t.Fatal(err)
	}
	n := numbersOf(t, s)
	for _, name := range []identity.Name{"one", "two"} {
		if got := n.Number(name); got != 0 {
			t.Errorf("%s: %d, want 0", name, got)
		}
	}
	if name, ok := n.Name(0); ok {
		t.Errorf("0 is %s", name)
	}
}
