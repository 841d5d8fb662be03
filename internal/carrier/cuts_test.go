// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// gulps is how many streams of a way have all the buffers on it full.
const gulps = 6

// cuts: a caller in the middle of a transfer sees its end as an error, never as an end
// of file, however its connection is cut.
func (f *fixture) cuts(t *testing.T) {
	t.Run("by policy", func(t *testing.T) {
		for range size(2, 100) {
			f.cut(t, f.ways, size(200, 1000), "aborted", func() {
				f.here.Tacit(t, "intention", "deny", caller, callee, "--wait")
			})
			f.here.Tacit(t, "intention", "allow", caller, callee, "--wait")
		}
	})
	t.Run("by a reset of the other program", func(t *testing.T) {
		for range size(2, 20) {
			f.cut(t, f.ways, size(50, 1000), "", func() { f.server.Signal(syscall.SIGUSR1) })
		}
	})
	for _, h := range f.Nodes {
		t.Run("by the end of the daemon on "+h.Name, func(t *testing.T) {
			for range size(1, 10) {
				f.cut(t, f.overLanes(), size(50, 200), "", func() { h.Kill(t) })
				h.Daemon(f.t)
				f.answers(t)
			}
		})
	}
}

func (f *fixture) overLanes() (ways []way) {
	for _, w := range f.ways {
		if w.lane {
			ways = append(ways, w)
		}
	}
	return ways
}

// cut opens count streams, evenly on the ways, and expects all of them to end by a
// reset, or as said on a way that isn't over a lane. Their callers only read: one that
// writes, too, may swallow the reset.
func (f *fixture) cut(t *testing.T, ways []way, count int, direct string, strike func()) {
	t.Helper()
	each := count / len(ways)
	gulping := min(each/2, gulps)
	var running []streams
	for _, w := range ways {
		running = append(running, w.start(t, each-gulping, "trickle"), w.start(t, gulping, "gulp"))
	}
	for _, s := range running {
		s.up(t)
	}
	struck, last := time.Now(), time.Duration(0)
	strike()
	for i, s := range running {
		results := []string{"reset"}
		if direct != "" && !ways[i/2].lane {
			results = append(results, direct)
		}
		last = max(last, s.all(t, results...).last.Sub(struck))
	}
	figure(t, fmt.Sprintf("the last of %d streams ended after", each*len(ways)), "-", last.Round(time.Millisecond), true)
}
