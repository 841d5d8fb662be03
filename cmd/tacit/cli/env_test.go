// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"
	"testing"
)

// TestConfirmed: only a person who types yes confirms.
func TestConfirmed(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		asks         bool
		want         string
	}{
		{"yes", "yes\n", true, ""},
		{"y", "y\n", true, "nothing was changed"},
		{"no answer", "", true, "nothing was changed"},
		{"nobody there", "yes\n", false, "this can't be undone, and nothing was changed"},
	} {
		e := &Env{Stdin: strings.NewReader(c.answer), Stderr: io.Discard, Width: 80, Asks: c.asks}
		if err := e.Confirmed("Do it?"); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
