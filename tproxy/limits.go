// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"math"

	"golang.org/x/sys/unix"
)

// share is the part of this process's descriptors that one peer may hold, and
// each of its lanes takes up to two: itself, and a connection to a program.
const (
	share   = 8
	perLane = 2
)

// peerLanes is how many lanes one peer may have here.
func peerLanes() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0 // the default
	}
	return int(min(l.Cur, math.MaxInt32)) / (share * perLane)
}
