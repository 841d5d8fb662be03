// SPDX-License-Identifier: Apache-2.0

// Package table prints text for people in aligned columns. It must not cut
// anything, nor know what it prints.
package table

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Columns is the width of a terminal that output fits in.
const Columns = 100

// minimum is the narrowest last column that is worth wrapping.
const minimum = 24

// Table aligns cells in columns. Nothing is ever cut: on a terminal, the last
// cell of a row continues on further lines.
type Table struct {
	rows   [][]string
	widths []int // of rows that were flushed
}

// New returns a table with a first row, unless header is empty.
func New(header ...any) *Table {
	t := &Table{}
	if len(header) > 0 {
		t.Row(header...)
	}
	return t
}

// Row adds a row. Unprintable runes in its cells become spaces.
func (t *Table) Row(cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = OneLine(fmt.Sprint(c))
	}
	t.rows = append(t.rows, text)
}

// Field is a row of name and value, left out when the value is empty.
func (t *Table) Field(name string, value any) {
	if s := fmt.Sprint(value); s != "" {
		t.Row(name, s)
	}
}

// Print writes the table; width 0 never wraps.
func (t *Table) Print(w io.Writer, width int) {
	starts := t.starts()
	for _, row := range t.rows {
		last := len(row) - 1
		var line strings.Builder
		for i, cell := range row {
			pad(&line, starts[i])
			if i < last || width == 0 || width-starts[i] < minimum {
				line.WriteString(cell)
				continue
			}
			for k, part := range Wrap(cell, width-starts[i]) {
				if k > 0 {
					line.WriteByte('\n')
					line.WriteString(strings.Repeat(" ", starts[i]))
				}
				line.WriteString(part)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// Flush prints the rows and forgets them. Later rows are aligned with them; a column
// grows with its widest cell so far.
func (t *Table) Flush(w io.Writer, width int) error {
	var out bytes.Buffer
	t.Print(&out, width)
	t.widths, t.rows = t.columns(), nil
	_, err := w.Write(out.Bytes())
	return err
}

// pad fills the only line of a row up to a column.
func pad(line *strings.Builder, column int) {
	if n := column - utf8.RuneCountInString(line.String()); n > 0 {
		line.WriteString(strings.Repeat(" ", n))
	}
}

// columns are the widths of the columns.
func (t *Table) columns() []int {
	widths := slices.Clone(t.widths)
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 { // the last cell widens no column
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	return widths
}

// starts are the columns in which cells begin.
func (t *Table) starts() []int {
	widths := t.columns()
	starts := make([]int, len(widths))
	for i := 1; i < len(widths); i++ {
		starts[i] = starts[i-1] + widths[i-1] + 2
	}
	return starts
}

// Wrap splits text at spaces into lines of at most width; a longer word stays whole.
func Wrap(text string, width int) []string {
	var out []string
	line, size := "", 0
	for _, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		if size > 0 && size+1+n > width {
			out, line, size = append(out, line), "", 0
		} else if size > 0 {
			line, size = line+" ", size+1
		}
		line, size = line+word, size+n
	}
	return append(out, line)
}

// OneLine replaces unprintable runes: text from elsewhere could control the
// terminal or break a table.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
