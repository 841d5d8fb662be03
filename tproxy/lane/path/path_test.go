// SPDX-License-Identifier: Apache-2.0

package path

import (
	"testing"
	"time"

	"tacit/tproxy/socket"
)

// TestPoor: a lane that has seen much judges the way, and one that hasn't leaves it as it is.
func TestPoor(t *testing.T) {
	var w Way
	for _, c := range []struct {
		name string
		socket.Path
		poor bool
	}{
		{"unknown", socket.Path{}, false},
		{"a rack", socket.Path{Trip: 80 * time.Microsecond, Sent: 1e6, Again: 12, Received: 1e6, OutOfTurn: 900}, false},
		{"another region", socket.Path{Trip: 20 * time.Millisecond, Sent: 10, Received: 10}, true},
		{"what is sent gets lost", socket.Path{Trip: 80 * time.Microsecond, Sent: 10_000, Again: 200}, true},
		{"what comes was lost", socket.Path{Trip: 80 * time.Microsecond, Received: 10_000, OutOfTurn: 2000}, true},
		{"a new lane on it", socket.Path{Trip: 80 * time.Microsecond, Sent: 20}, true},
		{"nothing gets lost any more", socket.Path{Trip: 80 * time.Microsecond, Sent: 10_000, Again: 1}, false},
		{"lost at the beginning", socket.Path{Trip: 80 * time.Microsecond, Sent: 20, Again: 2}, false},
	} {
		if w.Learn(c.Path); w.Poor() != c.poor {
			t.Errorf("%s: %v", c.name, w.Poor())
		}
	}
}
