// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReadingHolds: a file is parsed again where it may say something else.
func TestReadingHolds(t *testing.T) {
	written := time.Unix(1000, 0)
	was := stamp{size: 10, mode: 0o644, inode: 7, modified: written, changed: written}
	for name, c := range map[string]struct {
		read time.Duration // after it was written
		now  func(*stamp)
		want bool
	}{
		"the same":                        {time.Minute, func(*stamp) {}, true},
		"read right after it was written": {time.Millisecond, func(*stamp) {}, false},
		"longer":                          {time.Minute, func(s *stamp) { s.size++ }, false},
		"written again":                   {time.Minute, func(s *stamp) { s.modified = written.Add(time.Second) }, false},
		"written, with its old time":      {time.Minute, func(s *stamp) { s.changed = written.Add(time.Second) }, false},
		"replaced":                        {time.Minute, func(s *stamp) { s.inode++ }, false},
		"other rights":                    {time.Minute, func(s *stamp) { s.mode = 0 }, false},
		"gone":                            {time.Minute, func(s *stamp) { *s = stamp{missing: "gone"} }, false},
	} {
		now := was
		c.now(&now)
		if got := (reading{stamp: was, at: written.Add(c.read)}).holds(now); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
	if (reading{stamp: was}).holds(was) {
		t.Error("a file that couldn't be read isn't read again")
	}
}

// TestReloadParsesChanges: files that were written long ago are parsed once.
func TestReloadParsesChanges(t *testing.T) {
	f, dir := loaded(t, 3)
	past(f)
	before := f.read
	write(t, dir, 1, 2)
	defs, problems := f.Reload()
	if len(problems) > 0 || len(defs) != 3 || defs[1].Weight != 2 {
		t.Fatalf("%+v, %v", defs, problems)
	}
	for file, r := range f.read {
		if again, want := !r.at.Equal(before[file].at), file == name(dir, 1); again != want {
			t.Errorf("%s: parsed again: %t, want %t", file, again, want)
		}
	}
}

// loaded is a folder of so many files, which it has read.
func loaded(t testing.TB, files int) (f *Folder, dir string) {
	t.Helper()
	dir = t.TempDir()
	for n := range files {
		write(t, dir, n, 1)
	}
	f, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Reload()
	return f, dir
}

// past makes the folder's readings look as if the files were old when read.
func past(f *Folder) {
	for file, r := range f.read {
		r.at = r.at.Add(time.Minute)
		f.read[file] = r
	}
}

func name(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("svc%d.hcl", n)) }

func write(t testing.TB, dir string, n, weight int) {
	t.Helper()
	text := fmt.Sprintf("service {\n  name = \"svc%d\"\n  port = %d\n  weights { passing = %d }\n}\n", n, 1000+n, weight)
	if err := os.WriteFile(name(dir, n), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkReload reads a thousand files of which one has changed.
func BenchmarkReload(b *testing.B) {
	f, dir := loaded(b, 1000)
	past(f)
	for n := 1; b.Loop(); n++ {
		b.StopTimer()
		write(b, dir, 7, n%9+1)
		b.StartTimer()
		f.Reload()
	}
}

// BenchmarkChanged is what a folder of a thousand files costs every five seconds.
func BenchmarkChanged(b *testing.B) {
	f, _ := loaded(b, 1000)
	for b.Loop() {
		if f.changed() {
			b.Fatal("nothing was written")
		}
	}
}
