// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

const columns = 100 // the width of a terminal that output fits in

// table aligns cells in columns. Lines are cut at 100 columns: the longest cell
// stands last, and --json has all of it.
type table struct {
	buf bytes.Buffer
	tw  *tabwriter.Writer
}

func newTable(header ...any) *table {
	t := &table{}
	t.tw = tabwriter.NewWriter(&t.buf, 0, 0, 2, ' ', 0)
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = oneLine(fmt.Sprint(c))
	}
	fmt.Fprintln(t.tw, strings.Join(text, "\t"))
}

// field is a row of name and value, left out when the value is empty.
func (t *table) field(name string, value any) {
	if s := fmt.Sprint(value); s != "" {
		t.row(name, s)
	}
}

func (t *table) print(w io.Writer) {
	_ = t.tw.Flush() // writes to memory, so it can't fail
	for line := range strings.Lines(t.buf.String()) {
		fmt.Fprintln(w, cut(strings.TrimRight(line, " \n")))
	}
}

func cut(line string) string {
	if runes := []rune(line); len(runes) > columns {
		return string(runes[:columns-1]) + "…"
	}
	return line
}

// oneLine replaces unprintable runes: text from elsewhere could control the
// terminal or break a table.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// list joins strings with commas.
func list[S ~string](items []S) string {
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// elapsed formats a duration for people: "38 ms", "1.2 s", "3 min 20 s", "2 h 5 min".
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// amount formats bytes for people, in powers of 1024.
func amount(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < 4 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
