// SPDX-License-Identifier: Apache-2.0

package table

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTable: on a terminal, the last cell of a row is wrapped and nothing is cut;
// elsewhere each row is one line.
func TestTable(t *testing.T) {
	reason := strings.TrimSpace(strings.Repeat("port 7946 of host3 doesn't answer ", 6))
	tb := New("CHECK", "STATE", "FOUND")
	tb.Row("gossip", "FAILED", reason)
	tb.Row("mémoire", "ok", "")
	for _, width := range []int{0, Columns} {
		var out strings.Builder
		tb.Print(&out, width)
		if got := strings.Join(strings.Fields(out.String()), " "); got != "CHECK STATE FOUND gossip FAILED "+reason+" mémoire ok" {
			t.Errorf("width %d: %s", width, got)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if wrapped := len(lines) > 3; wrapped != (width > 0) {
			t.Errorf("width %d: %d lines:\n%s", width, len(lines), out.String())
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); width > 0 && n > width {
				t.Errorf("%d columns: %s", n, line)
			}
		}
		if width > 0 && !strings.HasPrefix(lines[2], strings.Repeat(" ", 17)) {
			t.Errorf("the second line isn't below the cell:\n%s", out.String())
		}
	}
}

// TestFlush: rows that come later have the same columns, which only grow.
func TestFlush(t *testing.T) {
	var out strings.Builder
	tb := New("NAME", "PORT", "WHY")
	for _, rows := range [][][]any{{{"db", 5432, "x"}}, {}, {{"a", 1, "y"}}, {{"a-long-name", 1, "z"}}, {{"b", 2, "w"}}} {
		for _, r := range rows {
			tb.Row(r...)
		}
		if err := tb.Flush(&out, 0); err != nil {
			t.Fatal(err)
		}
	}
	want := "NAME  PORT  WHY\ndb    5432  x\na     1     y\na-long-name  1     z\nb            2     w\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
