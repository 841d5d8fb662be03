// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestPeerLanes: all lanes of one peer, each with a connection to a program, hold at
// most an eighth of the descriptors.
func TestPeerLanes(t *testing.T) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	n := uint64(peerLanes())
	if n == 0 || 2*n > l.Cur/8 || l.Cur < 1<<31 && 2*(n+1) <= l.Cur/8 {
		t.Errorf("%d lanes of a peer with %d descriptors", n, l.Cur)
	}
}
