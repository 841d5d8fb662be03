// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// sample are three rounds. At 32 requests tacit is better than nginx in two of
// them; haproxy is the best peer once, but not by the median.
func sample() Results {
	round := func(tacit, haproxy, nginx, p99 float64) Round {
		return Round{Speed: 3.5, Systems: map[string]Values{
			Direct:  {"rps32": 90_000, "near_rps1": 10_000, "near_connect": 20},
			Tacit:   {"rps32": tacit, "p99_256": p99, "idle_kib": 20, "near_rps1": 9_000, "near_connect": 24.5},
			HAProxy: {"rps32": haproxy, "p99_256": 400, "idle_kib": 40},
			Nginx:   {"rps32": nginx, "p99_256": 200, "idle_kib": 100},
		}}
	}
	return Results{Best: 3.5, Machine: "Linux 6.18, 2 cores", Seconds: 2, Rounds: []Round{
		round(30_000, 10_000, 20_000, 20), round(10_000, 25_000, 20_000, 30), round(36_000, 12_000, 18_000, 50)}}
}

func rowOf(t *testing.T, r Results, id string) Row {
	t.Helper()
	for _, row := range r.Rows() {
		if row.ID == id {
			return row
		}
	}
	t.Fatalf("no row %s", id)
	return Row{}
}

func TestRatiosAreTakenWithinRounds(t *testing.T) {
	row := rowOf(t, sample(), "rps32")
	if row.Best != Nginx || row.Cells[Nginx] != 20_000 || row.Cells[Tacit] != 30_000 {
		t.Errorf("best %s, medians %v", row.Best, row.Cells)
	}
	if row.Ratio != 1.5 || row.Min != 0.5 || row.Max != 2 || row.Rounds != 3 {
		t.Errorf("ratio %v of %v to %v in %d rounds", row.Ratio, row.Min, row.Max, row.Rounds)
	}
	if less := rowOf(t, sample(), "p99_256"); less.Best != Nginx || less.Ratio != 0.15 {
		t.Errorf("of latencies the lowest is the best: %s, %v", less.Best, less.Ratio)
	}
}

func TestGoals(t *testing.T) {
	for id, met := range map[string]bool{"rps32": true, "p99_256": true, "idle_kib": true, "near_rps1": false, "near_connect": true} {
		if row := rowOf(t, sample(), id); !row.Judged || row.Met != met {
			t.Errorf("%s: judged %t, met %t, want %t: %+v", id, row.Judged, row.Met, met, row)
		}
	}
	r := sample()
	for _, round := range r.Rounds {
		delete(round.Systems, Nginx)
		delete(round.Systems, HAProxy)
		round.Systems[Tacit]["near_connect"] = 25.5
	}
	if row := rowOf(t, r, "rps32"); row.Judged || row.Rounds != 0 {
		t.Errorf("judged without peers: %+v", row)
	}
	if row := rowOf(t, r, "near_connect"); row.Met {
		t.Errorf("5.5 µs more than direct: %+v", row)
	}
}

func TestSlowRounds(t *testing.T) {
	for _, c := range []struct {
		speed, best float64
		slow        bool
	}{{3.4, 3.6, false}, {2.7, 3.3, true}, {2.7, 2.79, false}, {2.9, 3.7, true}, {0.5, 0.6, false}, {0.4, 0.6, true}} {
		if got := TooSlow(c.speed, c.best); got != c.slow {
			t.Errorf("%v GB/s where the best is %v: %t", c.speed, c.best, got)
		}
	}
	r := sample()
	r.Rounds[1].Speed = 2
	r.setSlowAside()
	if len(r.Rounds) != 2 || len(r.Slow) != 1 || !strings.Contains(r.Table(), " Slow rounds, not counted: 2.00 GB/s.") {
		t.Errorf("%d rounds, %d slow:\n%s", len(r.Rounds), len(r.Slow), r.Table())
	}
	r.Rounds = r.Slow
	if !strings.Contains(r.Table(), "THE MACHINE WAS BUSY") {
		t.Errorf("only slow rounds:\n%s", r.Table())
	}
}

func TestMedianAndPercentile(t *testing.T) {
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v", got)
	}
	all := make([]float64, 200)
	for i := range all {
		all[i] = float64(200 - i)
	}
	if p50, p99 := Percentile(all, 50), Percentile(all, 99); p50 != 100 || p99 != 198 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
	if got := Percentile([]float64{7}, 99); got != 7 {
		t.Errorf("p99 of one value: %v", got)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0.166: "0.17", 2: "2", 9.996: "10.0", 99.96: "100", 607: "607", 4218.4: "4218", 16_700: "16.7k", 112_340: "112k"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	table := sample().Table()
	want := "requests/s, 32                     90.0k   30.0k   12.0k   20.0k  1.50 (0.50–2)     ≥ 1.50× met\n"
	if !strings.Contains(table, want) || !strings.Contains(table, "4 of 5 goals met") {
		t.Errorf("no line\n%s in\n%s", want, table)
	}
	full := sample()
	for _, f := range Figures() {
		for _, v := range full.Rounds[0].Systems {
			v[f.ID] = 12_345
		}
	}
	for line := range strings.Lines(full.Table()) {
		if n := utf8.RuneCountInString(line) - 1; n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestChart reads the image back: a bar for each figure with a goal, from 1× to the
// ratio, to the left for what is worse, and a mark at the goal.
func TestChart(t *testing.T) {
	r := sample()
	chart := r.Chart()
	bars := 0
	decoder := xml.NewDecoder(strings.NewReader(chart))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, chart)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 5 || strings.Count(chart, `class="t"`) != 5 {
		t.Errorf("%d bars:\n%s", bars, chart)
	}
	for _, want := range []string{"1.50×, goal 1.50×", "6.67×, goal 6.00×", "2.00×, goal 1.67×", "0.90×, goal 0.95×", "0.82×, goal 0.80×"} {
		if !strings.Contains(chart, ">"+want+"<") {
			t.Errorf("no %q in\n%s", want, chart)
		}
	}
	if one, half, twice := place(1), place(0.5), place(2); math.Abs((one-half)-(twice-one)) > 1e-9 || place(0.001) != labelWidth || place(1000) != chartWidth-rightWidth {
		t.Errorf("the scale: 1/2 at %v, 1 at %v, 2 at %v", half, one, twice)
	}
}
