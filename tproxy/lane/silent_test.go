// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/policy"
)

// TestSilentPeer: a peer that falls silent is given up on all its lanes, also on those
// without a stream: the next stream would be lost on one of these.
func TestSilentPeer(t *testing.T) {
	a, b := pair(t)
	stream := a.held(b.port, "db")
	idle, err := a.dial(t.Context(), a.loop, b.port)
	testhost.Must(t, err)
	idle.release()
	a.lanes(2)
	keepUp(t, a)
	silent := make(chan struct{})
	b.events.Do(func() { <-silent })
	defer close(silent)
	if why := stream.why(); why != policy.ReasonLane {
		t.Errorf("the stream was lost: %s", why)
	}
	a.lanes(0)
	if n := a.guestOf("b", time.Now()).Carried.Load(); n != 0 {
		t.Errorf("%d streams are counted that are over", n)
	}
}
