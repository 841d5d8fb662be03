// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/node/store"
)

// TestFullDisk: at every number of bytes that are left, a change is made or refused,
// and none is half made; with room again, everything goes on.
func TestFullDisk(t *testing.T) {
	for left := 0; left <= 48; left += 4 {
		t.Run(fmt.Sprintf("%d KiB", left), func(t *testing.T) { fillUp(t, left<<10) })
	}
}

func fillUp(t *testing.T, left int) {
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	dir, ballast := filepath.Join(disk, "state"), filepath.Join(disk, "ballast")
	s := open(t, dir)
	n := numbersOf(t, s)
	given := map[uint32]identity.Name{n.Number("first"): "first"}
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := os.Truncate(ballast, max(0, size(t, ballast)-int64(left))); err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	for i := range 40 {
		key := fmt.Sprintf("k%d", i)
		done[key] = s.Set(key, make([]byte, 2000)) == nil
		if name := identity.Name(key); n.Number(name) != 0 {
			given[n.Number(name)] = name
		}
		_ = s.Copy()
	}
	s = restarted(t, s, dir, ballast)
	n = numbersOf(t, s)
	for key, made := range done {
		if v, err := s.Get(key); err != nil || (v != nil) != made {
			t.Errorf("%s was made: %t, and is there: %t (%v)", key, made, v != nil, err)
		}
		if other := given[n.Number(identity.Name(key))]; other != "" && string(other) != key {
			t.Errorf("%s has the number of %s", key, other)
		}
	}
	if err := errors.Join(s.Set("more", []byte("x")), s.Copy()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// restarted starts once while the disk is full, and once more with room.
func restarted(t *testing.T, s *store.Store, dir, ballast string) *store.Store {
	t.Helper()
	_ = s.Close() // the copy may find no room
	s = open(t, dir)
	if len(s.Said) > 0 {
		t.Errorf("with a full disk: %v", s.Said)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	return reopen(t, s, dir)
}

// TestKilledWhileWriting: whatever a daemon was told is kept is there after kill -9,
// and nothing is damaged.
func TestKilledWhileWriting(t *testing.T) {
	if dir := flag.Arg(0); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	times := 8
	if os.Getenv("TACIT_SOAK") != "" {
		times = 200
	}
	dir := t.TempDir()
	for i := range times {
		last := killed(t, dir, rand.IntN(60))
		s := open(t, dir)
		if v, err := s.Get("last"); err != nil || string(v) < last || len(s.Said) > 0 {
			t.Fatalf("kill %d: %q, before %q; %v; %v", i, v, last, s.Said, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeUntilKilled(t *testing.T, dir string) {
	s := open(t, dir)
	n := numbersOf(t, s)
	for i := range 1_000_000 {
		value := fmt.Sprintf("%d-%08d", time.Now().UnixNano(), i)
		if err := s.Set("last", []byte(value)); err != nil {
			t.Fatal(err)
		}
		n.Number(identity.Name(value))
		fmt.Println("last", value)
		if err := s.Copy(); err != nil {
			t.Fatal(err)
		}
	}
}

// killed ends a writer some milliseconds after its first change, and returns its
// last.
func killed(t *testing.T, dir string, after int) (last string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWriting$", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "last "); ok {
			if last == "" {
				time.AfterFunc(time.Duration(after)*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			last = value
		}
	}
	_ = cmd.Wait()
	if last == "" {
		t.Fatal("nothing was written")
	}
	return last
}
