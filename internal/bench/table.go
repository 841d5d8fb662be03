// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Table is the run as text of at most 100 columns: a line for each figure.
func (r Results) Table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s; %s, loads of %s s.\nYardstick, SHA-256 on all cores: %s GB/s, at best %.2f.%s\n\n",
		r.Machine, r.rounds(), number(r.Seconds), speeds(r.Rounds), r.Best, r.slowness())
	line(&out, "figure", Systems(), "tacit/best", "goal", "")
	met, judged := 0, 0
	for _, row := range r.Rows() {
		cells := make([]string, 0, len(Systems()))
		for _, system := range Systems() {
			cells = append(cells, cell(row.Cells, system))
		}
		line(&out, row.Name, cells, row.ratio(), row.Goal.String(), row.verdict())
		if row.Judged {
			judged++
		}
		if row.Met {
			met++
		}
	}
	fmt.Fprintf(&out, "\n%d of %d goals met. tacit/best: tacit by the best peer, in one round; of the same node: by direct.\n", met, judged)
	return out.String()
}

func line(out *strings.Builder, name string, cells []string, ratio, goal, verdict string) {
	text := fmt.Sprintf("%-32s%s  %-17s%8s %s", name, strings.Join(columns(cells), ""), ratio, goal, verdict)
	out.WriteString(strings.TrimRight(text, " ") + "\n")
}

func columns(cells []string) []string {
	var padded []string
	for _, c := range cells {
		padded = append(padded, strings.Repeat(" ", max(0, 8-utf8.RuneCountInString(c)))+c)
	}
	return padded
}

// ratio is the median, with the smallest and the largest where there are several.
func (row Row) ratio() string {
	switch row.Rounds {
	case 0:
		return ""
	case 1:
		return number(row.Ratio)
	}
	return fmt.Sprintf("%s (%s–%s)", number(row.Ratio), number(row.Min), number(row.Max))
}

func (row Row) verdict() string {
	switch {
	case !row.Judged:
		return ""
	case row.Met:
		return "met"
	}
	return "missed"
}

func (r Results) rounds() string {
	if len(r.Rounds) == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", len(r.Rounds))
}

func speeds(rounds []Round) string {
	var all []string
	for _, round := range rounds {
		all = append(all, fmt.Sprintf("%.2f", round.Speed))
	}
	return strings.Join(all, ", ")
}

// slowness says which rounds don't count, or that none should.
func (r Results) slowness() string {
	switch {
	case len(r.Rounds) > 0 && TooSlow(r.Rounds[0].Speed, r.Best):
		return " THE MACHINE WAS BUSY: no round counts."
	case len(r.Slow) > 0:
		return fmt.Sprintf(" Slow rounds, not counted: %s GB/s.", speeds(r.Slow))
	}
	return ""
}

func cell(cells map[string]float64, system string) string {
	v, ok := cells[system]
	if !ok {
		return "–"
	}
	return number(v)
}

// number shows three digits: 13.1k, 607, 97.2, 0.17.
func number(v float64) string {
	switch {
	case v >= 99_950:
		return fmt.Sprintf("%.0fk", v/1000)
	case v >= 9_995:
		return fmt.Sprintf("%.1fk", v/1000)
	case v >= 99.95 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
