// SPDX-License-Identifier: Apache-2.0

package records

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// forge returns a message of about size bytes: allow records "by" a key that may sign
// them, whose signatures don't verify.
func forge(t *testing.T, by *identity.Key, size int) []byte {
	t.Helper()
	signature, err := by.Sign("another context", []byte("another message"))
	if err != nil {
		t.Fatal(err)
	}
	var m message
	for seq := range uint64(size / 500) {
		c := allow("web", identity.Name(fmt.Sprintf("db-%d", seq)))
		body, err := json.Marshal(c.Body)
		if err != nil {
			t.Fatal(err)
		}
		m.Records = append(m.Records, ledger.Record{Kind: c.Kind, Key: c.Key, Dot: ledger.Dot{Signer: by.ID(), Seq: 1000 + seq},
			Body: body, Signer: by.Public(), Signature: signature})
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestForgedRecordsEndAMessage: of 20 MiB of forged records a few are looked at, all of
// them count against the sender, and the key that they name is as good as before.
func TestForgedRecordsEndAMessage(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator := f.makeOperator(t)
	before := f.View().Digest()
	if forged := f.Merge("host2", forge(t, operator, 20<<20)); forged < maxForged || forged > maxForged+batchSize {
		t.Errorf("%d records were looked at", forged)
	}
	if forged := f.Merge("host2", forge(t, operator, 3*500)); forged != 3 {
		t.Errorf("%d of 3 forged records count", forged)
	}
	if f.View().Digest() != before || len(f.disk.saved) != 1 {
		t.Error("forged records changed something")
	}
	if err := f.Sign(operator, allow("web", "db")); err != nil {
		t.Errorf("the operator can't sign: %v", err)
	}
	for _, text := range []string{"{", "[]", `{"records":{}}`, `{"records":[{"dot":7}]}`, "noise"} {
		if forged := f.Merge("host2", []byte(text)); forged != 1 {
			t.Errorf("%q counts %d times", text, forged)
		}
	}
	for _, text := range []string{"{}", `{"later":[{"version":2}]}`, `{"later":1,"records":[]}`} {
		if forged := f.Merge("host2", []byte(text)); forged != 0 {
			t.Errorf("%q, which a later version may send, counts %d times", text, forged)
		}
	}
}

// onDebug calls f at the first debug line.
type onDebug struct {
	slog.Handler
	once *sync.Once
	f    func()
}

func (h onDebug) Enabled(context.Context, slog.Level) bool { return true }

func (h onDebug) Handle(context.Context, slog.Record) error {
	h.once.Do(h.f)
	return nil
}

// TestChangeDuringAFlood: a change by this node's operator doesn't wait for the end of
// a long message. Its records are by nobody, so nothing ends it early.
func TestChangeDuringAFlood(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator := f.makeOperator(t)
	during := make(chan error, 1)
	f.conf.Log = slog.New(onDebug{slog.DiscardHandler, &sync.Once{}, func() { // after the first batch
		go func() { during <- f.Sign(operator, allow("web", "db")) }()
		select {
		case err := <-during:
			during <- err
		case <-time.After(10 * time.Second):
		}
	}})
	if forged := f.Merge("host2", forge(t, newKey(t), 1<<20)); forged != 0 {
		t.Errorf("%d records count as forged", forged)
	}
	select {
	case err := <-during:
		if err != nil {
			t.Error(err)
		}
	default:
		t.Error("the change waited for the end of the message")
	}
}

// TestMessageInBatches: records of a long message that authorise others count, wherever
// they stand.
func TestMessageInBatches(t *testing.T) {
	root := newKey(t)
	one, two := newFixture(t, "host1", root), newFixture(t, "host2", root)
	by := one.makeOperator(t)
	for range 3 { // each by the one before
		next := newKey(t)
		if err := one.Sign(by, Change{Kind: ledger.KindOperator, Key: next.ID().String(), Body: statement.Operator{Node: "host1", Public: next.Public()}}); err != nil {
			t.Fatal(err)
		}
		by = next
	}
	for i := range 3 * batchSize {
		if err := one.Sign(by, allow("web", identity.Name(fmt.Sprintf("db-%d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	recs := one.View().Records()
	slices.Reverse(recs)
	text, err := json.Marshal(message{Records: recs})
	if err != nil {
		t.Fatal(err)
	}
	if forged := two.Merge("host1", text); forged != 0 || two.View().Digest() != one.View().Digest() {
		t.Errorf("%d forged, %d of %d intentions", forged, len(two.View().Intentions()), 3*batchSize)
	}
	if len(two.sent) != 1 {
		t.Errorf("passed on in %d messages", len(two.sent))
	}
}
