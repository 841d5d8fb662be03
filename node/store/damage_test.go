// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/store"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

const trustDomain = "tacit.test"

// world is a state folder, and what it held at each of its generations.
type world struct {
	dir     string
	root    *identity.Key
	digests map[[32]byte]bool
	numbers map[identity.Name]uint32
	tables  []*policy.Table
}

// newWorld writes a folder whose database has many pages. Its last change, a deny,
// is in the database alone where stale is set.
func newWorld(t *testing.T, stale bool) *world {
	t.Helper()
	root, operator := newKey(t), newKey(t)
	w := &world{dir: t.TempDir(), root: root, digests: map[[32]byte]bool{}, numbers: map[identity.Name]uint32{}}
	s, l := open(t, w.dir), ledger.New(trustDomain, root.ID())
	var fresh []ledger.Record
	sign := func(key *identity.Key, k ledger.Kind, name string, body any) {
		t.Helper()
		r, err := l.Sign(key, k, name, body, false)
		if err != nil {
			t.Fatal(err)
		}
		fresh = append(fresh, r)
	}
	save := func() {
		t.Helper()
		if err := s.SaveRecords(fresh, l.Last(), l.Dropped()); err != nil {
			t.Fatal(err)
		}
		fresh = nil
	}
	sign(root, ledger.KindOperator, operator.ID().String(), statement.Operator{Node: "n1", Public: operator.Public()})
	for i := range 40 {
		sign(operator, ledger.KindGrant, fmt.Sprintf("n1/s%d", i), statement.Grant{Node: "n1", Service: identity.Name(fmt.Sprintf("s%d", i))})
	}
	save()
	sign(operator, ledger.KindIntention, "a>b", policy.Intention{Source: "a", Destination: "b", Action: policy.Allow})
	save()
	n := numbersOf(t, s)
	for part := range slices.Chunk(names(200), 40) {
		n.Assign(part)
	}
	for i := range 10 {
		if err := s.Set(fmt.Sprintf("setting-%d", i), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Copy(); err != nil {
		t.Fatal(err)
	}
	w.generation(l)
	old := readFile(t, w.copy())
	sign(operator, ledger.KindIntention, "a>b", policy.Intention{Source: "a", Destination: "b", Action: policy.Deny})
	save()
	n.Assign([]identity.Name{"late"})
	for _, name := range append(names(200), "late") {
		w.numbers[name] = n.Number(name)
	}
	w.generation(l)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if stale {
		writeFile(t, w.copy(), old)
	}
	return w
}

func names(n int) (out []identity.Name) {
	for i := range n {
		out = append(out, identity.Name(fmt.Sprintf("s%d", i)))
	}
	return out
}

func (w *world) copy() string { return filepath.Join(w.dir, store.CopiesDir, "state") }

func (w *world) generation(l *ledger.Ledger) {
	w.digests[l.Digest()] = true
	w.tables = append(w.tables, policy.NewTable(policy.Deny, l.Intentions()))
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// faults are what happens to a file. Each returns what is left of it, nil for none.
var faults = map[string]func(r *rand.Rand, b []byte) []byte{
	"truncated": func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] },
	"emptied":   func(*rand.Rand, []byte) []byte { return []byte{} },
	"lost":      func(*rand.Rand, []byte) []byte { return nil },
	"a NUL page": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/4096+1) * 4096
		clear(b[min(at, len(b)):min(at+4096, len(b))])
		return b
	},
	"NULs": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b))
		clear(b[at:min(len(b), at+1+r.IntN(3000))])
		return b
	},
	"flipped": func(r *rand.Rand, b []byte) []byte {
		for range 1 + r.IntN(20) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		return b
	},
	"a page of its own twice": func(r *rand.Rand, b []byte) []byte {
		if n := len(b) / 4096; n > 2 {
			from, to := r.IntN(n)*4096, r.IntN(n)*4096
			copy(b[to:to+4096], b[from:from+4096])
		}
		return b
	},
	"flipped in a header": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/4096+1)*4096 + r.IntN(64)
		b[min(at, len(b)-1)] ^= 1 << r.IntN(8)
		return b
	},
}

// TestDamagedStateStopsTheNode: whatever happens to the files, the store opens with
// what was written, says what is missing, keeps the damaged file, and gives no
// number twice.
func TestDamagedStateStopsTheNode(t *testing.T) {
	cases, seed := 120, uint64(time.Now().UnixNano())
	if os.Getenv("TACIT_SOAK") != "" {
		cases = 1000
	}
	if text := os.Getenv("TACIT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TACIT_SEED=%d", seed)
	worlds := []*world{newWorld(t, false), newWorld(t, true)}
	kinds := slices.Sorted(maps.Keys(faults))
	files := [][]string{{"state.db"}, {"state.db"}, {"state.db"}, {"copies/state"}, {"copies/numbers"}, {"state.db", "copies/state"}, {"state.db", "copies/numbers"}}
	for i := range cases {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		w, kind, hit := worlds[i%2], kinds[r.IntN(len(kinds))], files[r.IntN(len(files))]
		t.Run(fmt.Sprintf("%d %s %v", i, kind, hit), func(t *testing.T) {
			t.Parallel()
			w.suffers(t, r, faults[kind], hit)
		})
	}
}

// suffers opens a copy of the folder in which files were damaged.
func (w *world) suffers(t *testing.T, r *rand.Rand, fault func(*rand.Rand, []byte) []byte, files []string) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	var bad []byte
	for _, name := range files {
		path := filepath.Join(dir, name)
		b := fault(r, readFile(t, path))
		if name == "state.db" {
			bad = b
		}
		if b == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		writeFile(t, path, b)
	}
	s := open(t, dir)
	w.checkPolicy(t, s)
	w.checkNumbers(t, s)
	w.checkAside(t, s, dir, bad)
	if err := s.Set("again", []byte("x")); err != nil {
		t.Errorf("after it was made anew: %v", err)
	}
	was := s.Behind
	if s = reopen(t, s, dir); s.Behind != was {
		t.Errorf("at the next start, before it has caught up: behind %t; %v", s.Behind, s.Said)
	}
	w.checkNumbers(t, s)
	if err := s.CaughtUp(); err != nil {
		t.Fatal(err)
	}
	if again := reopen(t, s, dir); len(again.Said) > 0 || again.Behind {
		t.Errorf("at the start after that: %v", again.Said)
	}
}

// checkPolicy: one of the generations, or what is missing is said; nothing that
// nobody signed.
func (w *world) checkPolicy(t *testing.T, s *store.Store) {
	t.Helper()
	recs, seen, err := s.LoadRecords()
	if err != nil {
		t.Fatal(err)
	}
	l := ledger.New(trustDomain, w.root.ID())
	if err := l.Restore(recs, seen); err != nil {
		t.Errorf("a record was changed: %v", err)
	}
	if !s.Behind && w.tables[1].Digest() != policy.NewTable(policy.Deny, l.Intentions()).Digest() {
		t.Errorf("the policy is another one, and nobody is told: %v", s.Said)
	}
	if !s.Behind && !w.digests[l.Digest()] {
		t.Error("neither the old nor the new generation, and nobody is told")
	}
	if len(s.Said) == 0 && s.Behind {
		t.Error("nothing is said")
	}
}

// checkNumbers: a service has its number or one that no other had.
func (w *world) checkNumbers(t *testing.T, s *store.Store) {
	t.Helper()
	n, err := s.Numbers(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	given := map[uint32]identity.Name{}
	for name, number := range w.numbers {
		given[number] = name
	}
	for _, name := range append([]identity.Name{"new"}, slices.Collect(maps.Keys(w.numbers))...) {
		if other, was := given[n.Number(name)]; was && other != name {
			t.Fatalf("%s has the number of %s", name, other)
		}
	}
}

// checkAside: a damaged database is kept byte for byte, and said.
func (w *world) checkAside(t *testing.T, s *store.Store, dir string, bad []byte) {
	t.Helper()
	aside, err := filepath.Glob(filepath.Join(dir, "state.db.bad-*"))
	if err != nil || len(aside) > 1 {
		t.Fatalf("%v, %v", aside, err)
	}
	if len(aside) == 1 && (len(s.Said) == 0 || !bytes.Equal(readFile(t, aside[0]), bad)) {
		t.Errorf("%v is kept, and %v said", aside, s.Said)
	}
}

// TestFewBadFilesAreKept: the disk doesn't fill with them.
func TestFewBadFilesAreKept(t *testing.T) {
	w := newWorld(t, false)
	for range 6 {
		writeFile(t, filepath.Join(w.dir, "state.db"), []byte("x"))
		if err := open(t, w.dir).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if aside, err := filepath.Glob(filepath.Join(w.dir, "*.bad-*")); err != nil || len(aside) != 3 {
		t.Errorf("%v, %v", aside, err)
	}
}

// FuzzDatabase: no file makes the reader panic or go on for ever, and bbolt can write
// to any that it passes.
func FuzzDatabase(f *testing.F) {
	dir := f.TempDir()
	s, err := store.Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 300 {
		if err := s.PutRow("settings", fmt.Sprintf("key-%d", i), "value"); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	if !store.Readable(data) {
		f.Fatal("a sound file is refused")
	}
	f.Add(uint32(0), data[:64])
	f.Add(uint32(4096), data[4096:4160])
	f.Add(uint32(8192), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(data)
		copy(b[int(at)%len(b):], patch)
		if !store.Readable(b) {
			return
		}
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "state.db"), b)
		s := open(t, dir)
		for i := range 40 {
			if err := s.PutRow("settings", fmt.Sprintf("key-%d", 7*i), "other"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Copy(); err != nil {
			t.Fatal(err)
		}
	})
}
