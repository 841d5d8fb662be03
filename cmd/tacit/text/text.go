// SPDX-License-Identifier: Apache-2.0

// Package text says values in the words of the CLI's output: durations, amounts,
// lists. It must not know what a value belongs to, and prints nothing.
package text

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// OrDash returns s, or "-" in the place of nothing.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// List joins strings with commas.
func List[S ~string](items []S) string {
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

// YesNo returns "yes" or "no".
func YesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// Plural counts things whose plural ends in s: "1 node", "3 nodes".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Elapsed formats a duration for people: "38 ms", "1.2 s", "3 min 20 s", "2 h 5 min".
func Elapsed(d time.Duration) string {
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

// Amount formats bytes for people, in powers of 1024.
func Amount(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < 4 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// Addresses lists those that are set, with commas.
func Addresses(all ...netip.Addr) string {
	var out []string
	for _, a := range all {
		if a.IsValid() {
			out = append(out, a.String())
		}
	}
	return strings.Join(out, ", ")
}

// UpperFirst makes a sentence of words that begin with a small ASCII letter.
func UpperFirst(s string) string { return string(s[0]-'a'+'A') + s[1:] }

// Ago says when something was: "38 ms ago", or "-" for never.
func Ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return Elapsed(time.Since(at)) + " ago"
}
