// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"tacit/identity"
)

// leaf is a node certificate that is valid for an hour.
func leaf(t *testing.T) *x509.Certificate {
	t.Helper()
	auth, err := identity.CreateAuthority("mesh.test", "a", t.TempDir(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := auth.IssueNode(csr, "a")
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

func TestStale(t *testing.T) {
	leaf := leaf(t)
	half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	if got := stale(leaf, leaf.NotBefore.Add(time.Minute)); !got.Equal(half) {
		t.Errorf("young: %v, want half life %v", got, half)
	}
	proven := leaf.NotAfter.Add(-10 * time.Minute)
	if got := stale(leaf, proven); !got.Equal(proven.Add(5 * time.Minute)) {
		t.Errorf("old: %v", got)
	}
}

// TestProofOutlivesItsFrame: certificates of a proof stay what they are when the
// frame that brought them is overwritten by the next one.
func TestProofOutlivesItsFrame(t *testing.T) {
	leaf := leaf(t)
	frame := bytes.Clone(leaf.Raw)
	chain, err := ParseAll([][]byte{frame})
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	if !chain[0].Equal(leaf) || !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("the certificate changed with the frame")
	}
}

// TestTally: so many at once, and then one each pause.
func TestTally(t *testing.T) {
	now := time.Now()
	tally := NewTally(3, time.Second, now)
	for i, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, true}, {0, true}, {0, false}, {time.Second / 2, false}, {time.Second, true}, {time.Second, false},
		{100 * time.Second, true}, {100 * time.Second, true}, {100 * time.Second, true}, {100 * time.Second, false}} {
		if got := tally.Add(now.Add(c.after)); got != c.want {
			t.Errorf("%d, after %s: %v", i, c.after, got)
		}
	}
}

// TestLapsed: a service's proof is forgotten so long after its certificate's end that
// its streams end within five seconds, and not before.
func TestLapsed(t *testing.T) {
	now := time.Now()
	id := identity.ServiceID("mesh.test", "db")
	s := NewServices(now)
	s.Learn(id, Proven{From: now.Add(-time.Hour), To: now, Keys: make([]identity.KeyID, 1)})
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{-time.Second, 0}, {ExpiryGrace - 500*time.Millisecond, 0}, {ExpiryGrace - 250*time.Millisecond + time.Millisecond, 1}, {time.Minute, 0}} {
		if got := s.Lapsed(now.Add(c.after)); len(got) != c.want {
			t.Errorf("%s after the end: %v, want %d", c.after, got, c.want)
		}
	}
}
