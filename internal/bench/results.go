// SPDX-License-Identifier: Apache-2.0

package bench

import "slices"

// Values are one system's figures by their IDs.
type Values map[string]float64

// Round is every system measured once, one after the other, so that a ratio within
// a round compares what the machine did at nearly the same time.
type Round struct {
	Speed   float64           `json:"yardstick_gb_s"` // the slowest of the round: SHA-256 on all cores
	Systems map[string]Values `json:"systems"`
}

// Results are what a run has measured.
type Results struct {
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"` // of each system
	Seconds  float64           `json:"seconds"`  // of each load
	Best     float64           `json:"best_yardstick_gb_s"`
	Rounds   []Round           `json:"rounds"`
	Slow     []Round           `json:"slow_rounds,omitempty"` // not counted, and measured again
}

// slowest is below what the yardstick of a usable machine shows, in GB/s. Where the
// best round is slower, the machine has no instructions for SHA-256.
const slowest = 2.8

// TooSlow says whether a round's yardstick is so far below the best that other
// tenants of the machine have taken part in what the round measured.
func TooSlow(speed, best float64) bool {
	return speed < 0.8*best || speed < slowest && best >= slowest
}

// Row is a figure's line.
type Row struct {
	Figure
	Cells    map[string]float64 // medians by system
	Best     string             // the system that tacit is compared with, "" without one
	Ratio    float64            // the median of the rounds' ratios to Best
	Min, Max float64            // of these ratios
	Rounds   int                // that have the ratio
	Judged   bool               // the goal can be judged
	Met      bool
}

// Rows are the figures that were measured.
func (r Results) Rows() []Row {
	var rows []Row
	for _, f := range Figures() {
		if row := r.row(f); len(row.Cells) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

func (r Results) row(f Figure) Row {
	row := Row{Figure: f, Cells: map[string]float64{}}
	for _, system := range Systems() {
		if all := r.values(system, f.ID); len(all) > 0 {
			row.Cells[system] = median(all)
		}
	}
	row.Best = best(row)
	if ratios := r.ratios(f.ID, row.Best); len(ratios) > 0 {
		row.Ratio, row.Min, row.Max, row.Rounds = median(ratios), slices.Min(ratios), slices.Max(ratios), len(ratios)
	}
	row.Judged, row.Met = judge(row)
	return row
}

func (r Results) values(system, id string) (all []float64) {
	for _, round := range r.Rounds {
		if v, ok := round.Systems[system][id]; ok {
			all = append(all, v)
		}
	}
	return all
}

// ratios are tacit's values by another system's, of the rounds that have both.
func (r Results) ratios(id, other string) (all []float64) {
	for _, round := range r.Rounds {
		v, ok := round.Systems[Tacit][id]
		if base := round.Systems[other][id]; ok && base > 0 {
			all = append(all, v/base)
		}
	}
	return all
}

// best is the peer with the best median.
func best(row Row) string {
	if row.Goal.againstDirect() {
		return Direct
	}
	name := ""
	for _, p := range peers() {
		v, ok := row.Cells[p]
		if ok && (name == "" || (v > row.Cells[name]) == row.More) {
			name = p
		}
	}
	return name
}

func judge(row Row) (judged, met bool) {
	value, measured := row.Cells[Tacit]
	switch row.Goal.Kind {
	case RatioAbove, DirectAbove:
		return row.Rounds > 0, row.Ratio >= row.Goal.By
	case RatioBelow:
		return row.Rounds > 0, row.Ratio <= row.Goal.By
	case ValueBelow:
		return measured, value <= row.Goal.By
	case DirectPlus:
		return row.Rounds > 0, value <= row.Cells[Direct]+row.Goal.By
	}
	return false, false
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Percentile is the value that p percent of all don't exceed.
func Percentile(all []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
