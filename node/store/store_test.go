// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/store"
)

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen closes and opens the store, as a restart of the daemon does.
func reopen(t *testing.T, s *store.Store, dir string) *store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func numbersOf(t *testing.T, s *store.Store) *store.Numbers {
	t.Helper()
	n, err := s.Numbers(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOneDaemonPerDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dir, "state.db")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", st.Mode(), err)
	}
	began := time.Now()
	_, err := store.Open(dir)
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second opener: %v", err)
	}
	if waited := time.Since(began); waited > 10*time.Second {
		t.Errorf("second opener waited %s", waited)
	}
	reopen(t, s, dir)
}

func TestOpenNamesWhatItCannotOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(filepath.Join(path, "below")); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file where a directory should be: %v", err)
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if v, err := s.Get("never"); v != nil || err != nil {
		t.Errorf("never set: %v, %v", v, err)
	}
	for _, v := range []string{"one", "two"} {
		if err := s.Set("key", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s, dir)
	if v, err := s.Get("key"); string(v) != "two" || err != nil {
		t.Errorf("after reopening: %q, %v", v, err)
	}
}

func TestServices(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for id, port := range map[string]int{"db-1": 5432, "db-2": 5433, "gone": 1} {
		if err := s.PutService(id, map[string]int{"port": port}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.PutService("db-2", map[string]int{"port": 6000}), s.DeleteService("gone"), s.DeleteService("never")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutService("bad", func() {}); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("what JSON can't hold: %v", err)
	}
	s = reopen(t, s, dir)
	var got []string
	err := s.Services(func(id string, text []byte) error {
		got = append(got, id+string(text))
		return nil
	})
	if want := `db-1{"port":5432} db-2{"port":6000}`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("services %v, %v, want %s", got, err, want)
	}
	stop := errors.New("stop")
	if err := s.Services(func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callback's error: %v", err)
	}
}

func TestSpendIsTrueOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var firsts atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			first, err := s.Spend("token", time.Now())
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	wg.Wait()
	if n := firsts.Load(); n != 1 {
		t.Errorf("%d of 50 callers were first", n)
	}
	s = reopen(t, s, dir)
	if first, err := s.Spend("token", time.Now()); first || err != nil {
		t.Errorf("after reopening: %t, %v", first, err)
	}
	if first, err := s.Spend("other", time.Now()); !first || err != nil {
		t.Errorf("another token: %t, %v", first, err)
	}
	if first, err := s.Spend("", time.Now()); first || err == nil {
		t.Errorf("no token: %t, %v", first, err)
	}
	_ = s.Close()
	if first, err := s.Spend("third", time.Now()); first || err == nil {
		t.Errorf("a closed store: %t, %v", first, err)
	}
}

func TestNumbersAreNeverReused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	n := numbersOf(t, s)
	if _, ok := n.Name(0); ok || n.Number("") != 0 {
		t.Error("0 is somebody")
	}
	given := map[identity.Name]uint32{}
	for _, name := range []identity.Name{"web", "db", "api", "web"} {
		given[name] = n.Number(name)
	}
	s = reopen(t, s, dir)
	n = numbersOf(t, s)
	seen := map[uint32]identity.Name{0: "nobody"}
	for _, name := range []identity.Name{"new", "api", "db", "web", "newer"} {
		number := n.Number(name)
		if want, ok := given[name]; ok && number != want {
			t.Errorf("%s: %d, before %d", name, number, want)
		}
		if other, taken := seen[number]; taken {
			t.Errorf("%s and %s: both %d", name, other, number)
		}
		seen[number] = name
		if got, ok := n.Name(number); !ok || got != name {
			t.Errorf("name of %d: %q, want %q", number, got, name)
		}
	}
	_ = s.Close()
	if got := n.Number("late"); got != 0 {
		t.Errorf("a number that can't be kept: %d, want 0", got)
	}
	if got := n.Number("web"); got != given["web"] {
		t.Errorf("a known name after the store's end: %d", got)
	}
}

// TestAssign: many names get their numbers in one write, and keep those they have.
func TestAssign(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	n := numbersOf(t, s)
	web := n.Number("web")
	n.Assign([]identity.Name{"db", "web", "", "db", "api"})
	seen := map[uint32]bool{0: true}
	for _, name := range []identity.Name{"db", "web", "api"} {
		number := n.Number(name)
		if seen[number] {
			t.Errorf("%s has number %d", name, number)
		}
		seen[number] = true
	}
	if n.Number("web") != web {
		t.Error("web has another number")
	}
	again := numbersOf(t, reopen(t, s, dir))
	for _, name := range []identity.Name{"db", "web", "api"} {
		if again.Number(name) != n.Number(name) {
			t.Errorf("%s has another number after a restart", name)
		}
	}
}

// TestReservedNumbers: no other name gets a reserved number, and it isn't stored.
func TestReservedNumbers(t *testing.T) {
	s := open(t, t.TempDir())
	n := numbersOf(t, s)
	if err := n.Reserve("tacit/probe", 2); err != nil {
		t.Fatal(err)
	}
	a, b := n.Number("a"), n.Number("b")
	if a != 1 || b != 3 || n.Number("tacit/probe") != 2 {
		t.Errorf("numbers %d, %d, %d; want 1, 3, 2", a, b, n.Number("tacit/probe"))
	}
	if err := n.Reserve("tacit/probe", 3); err == nil {
		t.Error("b's number was given away")
	}
	if name, known := numbersOf(t, s).Name(2); known {
		t.Errorf("%s is on disk", name)
	}
}

func TestNumbersInParallel(t *testing.T) {
	s := open(t, t.TempDir())
	n := numbersOf(t, s)
	names := []identity.Name{"a", "b", "c", "d"}
	var wg sync.WaitGroup
	got := make([]uint32, 40)
	for i := range got {
		wg.Go(func() { got[i] = n.Number(names[i%len(names)]) })
	}
	wg.Wait()
	for i, number := range got {
		if name, ok := n.Name(number); !ok || name != names[i%len(names)] {
			t.Errorf("%s got %d, which is %q's", names[i%len(names)], number, name)
		}
	}
	if reread := numbersOf(t, s); reread.Number("a") != n.Number("a") {
		t.Error("the disk holds another number")
	}
}
