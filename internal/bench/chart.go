// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// The chart's measures, in pixels.
const (
	chartWidth = 760
	labelWidth = 250 // left of the scale
	rightWidth = 140 // right of it, for the numbers
	rowHeight  = 22
	barHeight  = 12
	headHeight = 54
	footHeight = 30
)

// The scale is logarithmic: as far from twice to once as from once to half.
const (
	leastTimes = 0.25
	mostTimes  = 16
)

// style is readable on white and on black.
const style = `text{font:13px sans-serif;fill:#1f2328}.s{fill:#59636e;font-size:12px}.g{stroke:#818b98;stroke-opacity:.35}` +
	`.o{stroke:#59636e;stroke-width:1.5}.m{fill:#1a7f37}.x{fill:#bc4c00}.n{fill:#818b98}.t{stroke:#0969da;stroke-width:2.5}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.o{stroke:#9198a1}.m{fill:#3fb950}.x{fill:#db6d28}.t{stroke:#58a6ff}}`

// bar is a figure as the chart shows it: how many times better than the other.
type bar struct {
	name        string
	times, goal float64 // goal 0: none
	class       string
}

// Chart is an SVG image: how many times better tacit is than the best peer, or than
// direct on the same node. Better is more of what one wants, less of what it costs.
func (r Results) Chart() string {
	bars := r.bars()
	height := headHeight + rowHeight*len(bars) + footHeight
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`, chartWidth, height, chartWidth, height)
	fmt.Fprintf(&out, "\n<title>tacit beside haproxy and nginx</title>\n<style>%s</style>\n", style)
	text(&out, 8, 20, "", "start", "How many times better than the best of haproxy and nginx, mutual TLS between two hosts")
	grid(&out, headHeight+rowHeight*len(bars))
	for i, b := range bars {
		b.draw(&out, headHeight+rowHeight*i)
	}
	text(&out, 8, height-10, "s", "start", fmt.Sprintf("bar: median of %s, green where the goal (blue) is met · same node: beside no proxy · made by make bench", r.rounds()))
	out.WriteString("</svg>\n")
	return out.String()
}

func (r Results) bars() (bars []bar) {
	for _, row := range r.Rows() {
		if row.Regression || row.Rounds == 0 || row.Ratio == 0 {
			continue
		}
		b := bar{name: row.Name, times: better(row, row.Ratio), goal: row.goalTimes(), class: "n"}
		switch {
		case row.Judged && row.Met:
			b.class = "m"
		case row.Judged:
			b.class = "x"
		}
		bars = append(bars, b)
	}
	return bars
}

// better turns a ratio around where less is better.
func better(row Row, ratio float64) float64 {
	if row.More {
		return ratio
	}
	return 1 / ratio
}

// goalTimes is the goal on the scale of the bars, 0 without one.
func (row Row) goalTimes() float64 {
	base := row.Cells[row.Best]
	switch row.Goal.Kind {
	case RatioAbove, RatioBelow, DirectAbove:
		return better(row, row.Goal.By)
	case ValueBelow:
		return better(row, row.Goal.By/base)
	case DirectPlus:
		return better(row, (base+row.Goal.By)/base)
	}
	return 0
}

// place is where a value stands on the scale; what is beyond stands at its end.
func place(times float64) float64 {
	share := math.Log(times/leastTimes) / math.Log(mostTimes/leastTimes)
	return labelWidth + min(1, max(0, share))*(chartWidth-labelWidth-rightWidth)
}

// grid draws the scale's lines; the one at 1 is the other's own value.
func grid(out *strings.Builder, bottom int) {
	for times := leastTimes; times <= mostTimes; times *= 2 {
		x, class := place(times), "g"
		if times == 1 {
			class = "o"
		}
		fmt.Fprintf(out, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", class, x, x, headHeight-4, bottom)
		text(out, x, headHeight-10, "s", "middle", scaleLabel(times))
	}
}

func scaleLabel(times float64) string {
	if times < 1 {
		return fmt.Sprintf("1/%.0f", 1/times)
	}
	return fmt.Sprintf("%.0f×", times)
}

func (b bar) draw(out *strings.Builder, top int) {
	one, end := place(1), place(b.times)
	middle := top + rowHeight/2
	text(out, labelWidth-14, middle+4, "", "end", b.name)
	fmt.Fprintf(out, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
		b.class, min(one, end), middle-barHeight/2, max(1, math.Abs(end-one)), barHeight)
	said := fmt.Sprintf("%.2f×", b.times)
	if b.goal > 0 {
		x := place(b.goal)
		fmt.Fprintf(out, `<line class="t" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x, x, middle-9, middle+9)
		said += fmt.Sprintf(", goal %.2f×", b.goal)
	}
	text(out, chartWidth-rightWidth+10, middle+4, "s", "start", said)
}

func text[X int | float64](out *strings.Builder, x X, y int, class, anchor, said string) {
	fmt.Fprintf(out, `<text class="%s" x="%.1f" y="%d" text-anchor="%s">`, class, float64(x), y, anchor)
	_ = xml.EscapeText(out, []byte(said)) // a strings.Builder doesn't fail
	out.WriteString("</text>\n")
}
