// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEndOfMark(t *testing.T) {
	for _, row := range []struct {
		name, mark string
		want       time.Duration
	}{
		{"of this boot", newMark("boot-1", time.Minute, 7), time.Minute},
		{"of this boot, as it is written", "boot-1 60000000000 7\n", time.Minute},
		{"of another boot", newMark("boot-2", time.Minute, 7), 0},
		{"no file", "", 0},
		{"half a file", "boot-1 ", 0},
		{"no number", "boot-1 soon 7\n", 0},
	} {
		if got := endOf(row.mark, "boot-1"); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	if a, b := newMark("b", 1, 7), newMark("b", 1, 8); a == b {
		t.Errorf("two daemons have the mark %q", a)
	}
}

func TestThisBoot(t *testing.T) {
	if id := bootID(); len(id) != 36 || bootID() != id {
		t.Errorf("the boot's id is %q", id)
	}
	if a, b := bootTime(), bootTime(); a <= 0 || b < a {
		t.Errorf("boot time: %s, then %s", a, b)
	}
}

func TestWriteWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := writeWhole(path, text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if exists(path + ".new") {
		t.Error("a half-written file is left")
	}
	if err := writeWhole(filepath.Join(path, "below-a-file"), ""); err == nil {
		t.Error("written below a file")
	}
}
