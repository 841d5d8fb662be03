// SPDX-License-Identifier: Apache-2.0

package bench

import "testing"

// TestSystemsStart brings up the two systems that need no further package and calls
// through them, so that a change of the command line or of a route doesn't break the
// benchmark unseen. It judges no figure.
func TestSystemsStart(t *testing.T) {
	for _, name := range []string{Direct, Tacit} {
		s, v := start(t, name), Values{}
		for _, address := range []string{s.farPort(httpPort), s.nearPort(nearPort)} {
			if got := s.call(t, address, 20, 2, 10); got.Calls != 20 || got.Failed != 0 {
				t.Errorf("%s: %s: %+v", name, address, got)
			}
		}
		s.idle(t, 20, v)
		if used := s.cpu(t); (used > 0) != (name == Tacit) {
			t.Errorf("%s: the proxies have used %v s of CPU", name, used)
		}
	}
}
