// SPDX-License-Identifier: Apache-2.0

package limits

import "runtime/debug"

const (
	slackLeast = 256 // descriptors: fewer connections hold little
	slackLooks = 4   // without a change downwards: a second, until the last ones have ended
)

// slack knows when most connections have ended. The Go runtime would keep their memory:
// it collects when the heap has grown, or every two minutes. The zero value is ready.
type slack struct {
	most  uint64 // descriptors in use at once, since the last collection
	last  uint64 // at the last look
	still int    // looks since their number has fallen
}

// look says whether memory is to be given back now: half of the descriptors, and many,
// aren't in use any more.
func (s *slack) look(used uint64) bool {
	s.still++
	if used < s.last {
		s.still = 0
	}
	s.last, s.most = used, max(s.most, used)
	if used > s.most/2 || s.most-used < slackLeast || s.still < slackLooks {
		return false
	}
	s.most = used
	return true
}

// loosen gives memory of connections that have ended back to the system.
func (l *Limits) loosen(used uint64) {
	if l.slack.look(used) {
		debug.FreeOSMemory()
	}
}
