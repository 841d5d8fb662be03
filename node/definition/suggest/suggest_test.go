// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"slices"
	"testing"
)

func TestInstead(t *testing.T) {
	for unknown, want := range map[string]string{
		"prot": "did you mean port?",
		"PORT": "did you mean port?",
		"tag":  "did you mean tags?",
		"xyz":  "known are name, port, tags",
		"":     "known are name, port, tags",
	} {
		if got := Instead(unknown, slices.Values([]string{"tags", "port", "name"})); got != want {
			t.Errorf("%.40q: %s; want %s", unknown, got, want)
		}
	}
}
