// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
)

// TestRevokedNodeLeavesGossip: a revoked node that goes on as before is not alive for
// the others, nothing of its is taken, and nothing reaches it; two others that know of
// the revocation go on, and so does one that was down meanwhile and comes back.
func TestRevokedNodeLeavesGossip(t *testing.T) {
	testhost.VerifyNone(t)
	r, pools, owners := mesh(t, 4, 21)
	_ = pools[3].Close()
	r.revoke("n2")
	begin := time.Now()
	for _, p := range pools[:2] {
		if find(p, "n2").Alive {
			t.Errorf("%s lists the revoked node alive", p.cfg.Name)
		}
		within(t, 10*time.Second, "memberlist drops it", func() bool {
			for _, m := range p.table.list() {
				if m.Name == "n2" {
					return !m.Alive
				}
			}
			return true
		})
	}
	t.Logf("dead for memberlist, too, after %v", time.Since(begin))
	again := r.start(t, r.config(t, "n3", "127.0.21.4", owners[3]))
	took := within(t, 10*time.Second, "n3 is back", func() bool { return alive(again) == 3 && find(pools[0], "n3").Alive && find(pools[1], "n3").Alive })
	t.Logf("one that was down meanwhile is back after %v", took)

	pools[2].Broadcast([]byte("from the revoked node"))
	pools[0].Broadcast([]byte("from n0"))
	if err := pools[2].exchange(t.Context(), "n0", pools[0].Addr()); err == nil {
		t.Error("the revoked node exchanged states")
	}
	within(t, 5*time.Second, "n0's broadcast", func() bool { return owners[1].count("from n0") == 1 && owners[3].count("from n0") == 1 })
	for i, o := range owners {
		if i != 2 && o.count("from the revoked node") != 0 {
			t.Errorf("n%d took the revoked node's broadcast", i)
		}
	}
	if owners[2].count("from n0") != 0 {
		t.Error("the revoked node reads on")
	}
}

// TestPartitionsHeal: halves that couldn't reach each other find each other at most
// 10 s after they can, however long that lasted, without a restart, and what was said
// meanwhile arrives.
func TestPartitionsHeal(t *testing.T) {
	for i, lasted := range []time.Duration{time.Minute, 25 * time.Hour, 240 * time.Hour} {
		t.Run(lasted.String(), func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64
			r := newRoll(t)
			r.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			var pools []*Pool
			var owners []*owner
			for n := range 4 {
				owners = append(owners, &owner{state: fmt.Appendf(nil, "state of n%d", n)})
				pools = append(pools, r.start(t, r.config(t, fmt.Sprintf("n%d", n), fmt.Sprintf("127.0.%d.%d", 22+i, n+1), owners[n])))
			}
			together := func(want int) func() bool {
				return func() bool { return !slices.ContainsFunc(pools, func(p *Pool) bool { return alive(p) != want }) }
			}
			within(t, 10*time.Second, "one mesh", together(4))
			side := func(n identity.Name) bool { return n < "n2" }
			r.part(func(a, b identity.Name) bool { return side(a) != side(b) })
			within(t, 10*time.Second, "two halves", together(2))
			within(t, 10*time.Second, "each has given up the other", func() bool {
				return !slices.ContainsFunc(pools, func(p *Pool) bool { return p.table.alive() != 2 })
			})
			for _, o := range owners {
				o.mu.Lock()
				o.merged = nil
				o.mu.Unlock()
			}
			for range 4 {
				ahead.Add(int64(lasted / 4))
				for _, p := range pools {
					wake(p.healing)
					if lost := p.lost(); len(lost) != 2 {
						t.Errorf("%s looks for %v", p.cfg.Name, lost)
					}
				}
			}
			r.part(nil)
			took := within(t, 10*time.Second, "one mesh again", together(4))
			within(t, 10*time.Second, "states", func() bool {
				return owners[0].count("state of n2")+owners[0].count("state of n3")+owners[1].count("state of n2")+owners[1].count("state of n3") > 0
			})
			t.Logf("healed after %v", took)
		})
	}
}
