// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/policy/ledger"
)

// TestSizeStays: the records that one member may have, replaced ten times each, take at
// most 8 MiB of the file.
func TestSizeStays(t *testing.T) {
	for _, c := range []struct{ records, body int }{{1900, 100}, {110, 15 << 10}} {
		dir := t.TempDir()
		s := open(t, dir)
		var old []ledger.Record
		for round := range 10 {
			var now []ledger.Record
			for n := range c.records {
				r := record(1, uint64(round*c.records+n+1))
				r.Kind, r.Key = ledger.KindInstance, fmt.Sprint("n1/", n)
				r.Body = json.RawMessage(`"` + strings.Repeat("x", c.body) + `"`)
				r.Signer, r.Signature = make([]byte, 91), make([]byte, 72)
				now = append(now, r)
			}
			for at := 0; at < c.records; at += 10 {
				var dropped []string
				for _, r := range old[min(at, len(old)):min(at+10, len(old))] {
					dropped = append(dropped, r.ID())
				}
				if err := s.SaveRecords(now[at:at+10], nil, dropped); err != nil {
					t.Fatal(err)
				}
			}
			old = now
		}
		if recs, _ := load(t, s); len(recs) != c.records {
			t.Errorf("%d records on disk, want %d", len(recs), c.records)
		}
		file, err := os.Stat(filepath.Join(dir, "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d records of %d bytes: %d KiB", c.records, c.body, file.Size()>>10)
		if file.Size() > 8<<20 {
			t.Errorf("the file has %d bytes", file.Size())
		}
	}
}
