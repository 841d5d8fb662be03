// SPDX-License-Identifier: Apache-2.0

package records

import (
	"log/slog"
	"testing"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy/ledger"
)

// FuzzMerge: no message of another node makes this one panic, and none that nobody
// has signed changes anything.
func FuzzMerge(f *testing.F) {
	key, err := identity.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	r, err := New(Config{Self: "host1", Ledger: ledger.New("tacit.local", key.ID()), Store: &disk{settings: map[string][]byte{}}, Health: health.NewBoard(),
		Log: slog.New(slog.DiscardHandler), Changed: func() {}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.State())
	f.Add([]byte(`{"records":[{"kind":"intention","key":"web>db","dot":{"seq":1},"body":{},"signer":"AA==","signature":"AA=="}]}`))
	f.Add([]byte(`{"revisions":{"host2":{"d":"a","e":18446744073709551615,"r":1}}}`))
	before := r.View().Digest()
	f.Fuzz(func(t *testing.T, payload []byte) {
		r.Merge("host2", payload)
		if r.View().Digest() != before || len(r.Revisions()) > 0 {
			t.Errorf("a message that nobody has signed is believed: %s", payload)
		}
	})
}
