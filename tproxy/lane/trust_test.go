// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"bytes"
	"testing"
	"time"

	"tacit/identity"
)

func TestStale(t *testing.T) {
	leaf := newMesh(t).svid(identity.NodeID(td, "a")).Chain[0]
	half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	if got := stale(leaf, leaf.NotBefore.Add(time.Minute)); !got.Equal(half) {
		t.Errorf("young: %v, want half life %v", got, half)
	}
	proven := leaf.NotAfter.Add(-10 * time.Minute)
	if got := stale(leaf, proven); !got.Equal(proven.Add(5 * time.Minute)) {
		t.Errorf("old: %v", got)
	}
}

// TestStaleLane: an idle lane past half life isn't used.
func TestStaleLane(t *testing.T) {
	a, b := pair(t)
	a.ask(b.port, "db")
	old := a.all()[0]
	old.mu.Lock()
	old.chainStale = time.Now()
	old.mu.Unlock()
	a.ask(b.port, "db")
	if all := a.all(); len(all) != 1 || all[0] == old {
		t.Error("a stale lane was used again")
	}
}

// TestProvenOnce: a lane carries one stream after another, and each service is
// proven on it once.
func TestProvenOnce(t *testing.T) {
	a, b := pair(t)
	for n, destination := range []identity.Name{"db", "db", "cache", "db", "cache"} {
		a.ask(b.port, destination)
		if lanes := a.List(); len(lanes) != 1 || lanes[0].Streams != n+1 {
			t.Fatalf("after %d streams: lanes %+v", n+1, lanes)
		}
	}
	if l := a.all()[0]; l.seen.n != 2 || l.shown.n != 1 {
		t.Errorf("%d proofs seen, %d shown; want 2 and 1", l.seen.n, l.shown.n)
	}
	if l := b.all()[0]; l.seen.n != 1 || l.shown.n != 2 {
		t.Errorf("%d proofs seen there, %d shown; want 1 and 2", l.seen.n, l.shown.n)
	}
}

// TestProofOutlivesItsFrame: certificates of a proof stay what they are when the
// frame that brought them is overwritten by the next one.
func TestProofOutlivesItsFrame(t *testing.T) {
	leaf := newMesh(t).svid(identity.NodeID(td, "a")).Chain[0]
	frame := bytes.Clone(leaf.Raw)
	chain, err := parseAll([][]byte{frame})
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	if !chain[0].Equal(leaf) || !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("the certificate changed with the frame")
	}
}
