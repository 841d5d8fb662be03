// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/tls"
	"testing"

	"tacit/internal/testhost"
)

// TestKeyLimit: no key seals more than its share of records.
func TestKeyLimit(t *testing.T) {
	a, b := between(t, someSuite)
	if a.limit != 1<<24 {
		t.Errorf("the limit is %d records", a.limit)
	}
	a.limit = 2
	buf := make([]byte, 100)
	for round := range updateBurst {
		for range 2 {
			_, err := b.Open(seal(t, &a.Sealer, typeData, 1))
			testhost.Must(t, err)
		}
		if !a.NeedUpdate() {
			t.Fatalf("round %d: no update is due", round)
		}
		for range begun {
			_, err := b.Open(seal(t, &a.Sealer, typeData, 1))
			testhost.Must(t, err)
		}
		if _, err := a.Seal(buf, 1); err != ErrUpdate {
			t.Fatalf("round %d: %v", round, err)
		}
		n, err := a.Update(buf)
		testhost.Must(t, err)
		_, err = b.Open(buf[:n])
		testhost.Must(t, err)
		if a.NeedUpdate() || a.Sealer.keys.seq != 0 || b.NeedUpdate() {
			t.Fatalf("round %d: an update is due after the update", round)
		}
	}
}

// TestKeysDiffer: each update gives another key and IV, the same at both ends.
func TestKeysDiffer(t *testing.T) {
	for _, id := range ids() {
		a, b := between(t, id)
		ivs := map[nonce]bool{}
		for range 10 {
			out, in := a.Sealer.keys, b.Opener.keys
			if ivs[out.iv] || out.iv != in.iv || string(out.secret) != string(in.secret) {
				t.Fatalf("%s: IV %x and %x", tls.CipherSuiteName(id), out.iv, in.iv)
			}
			ivs[out.iv] = true
			was := out.secret
			testhost.Must(t, out.update())
			testhost.Must(t, in.update())
			same(t, "the secret before", was, make([]byte, len(was)))
		}
	}
}

// TestRoom: what doesn't fit is refused, and changes nothing.
func TestRoom(t *testing.T) {
	a, b := between(t, someSuite)
	for _, c := range []struct{ room, n int }{{HeaderSize + 10 + TailSize - 1, 10}, {1 << 15, MaxPlaintext + 1}, {100, -1}, {0, 0}} {
		if _, err := a.Seal(make([]byte, c.room), c.n); err == nil {
			t.Errorf("%d bytes in %d", c.n, c.room)
		}
	}
	if _, err := a.Update(make([]byte, UpdateSize-1)); err == nil {
		t.Error("an update without room")
	}
	if _, err := a.End(make([]byte, EndSize-1), nil); err == nil {
		t.Error("an end without room")
	}
	buf := make([]byte, HeaderSize+MaxPlaintext+TailSize)
	n, err := a.Seal(buf, copy(buf[HeaderSize:], noise(MaxPlaintext)))
	testhost.Must(t, err)
	data, err := b.Open(buf[:n])
	testhost.Must(t, err)
	same(t, "data", data, noise(MaxPlaintext))
}

// TestEnded: nothing follows an end.
func TestEnded(t *testing.T) {
	a, _ := between(t, someSuite)
	buf := make([]byte, 100)
	_, err := a.End(buf, nil)
	testhost.Must(t, err)
	_, data := a.Seal(buf, 1)
	_, update := a.Update(buf)
	_, end := a.End(buf, nil)
	if data != ErrEnded || update != ErrEnded || end != ErrEnded {
		t.Errorf("data: %v, update: %v, end: %v", data, update, end)
	}
}

// TestSuites: only those of TLS 1.3, with secrets of their size.
func TestSuites(t *testing.T) {
	if _, err := newLayer(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, make([]byte, 32), make([]byte, 32)); err == nil {
		t.Error("a suite of TLS 1.2")
	}
	for _, id := range ids() {
		for _, n := range []int{0, 31, 47, 64} {
			if _, err := newLayer(id, make([]byte, n), make([]byte, n)); err == nil {
				t.Errorf("%s: a secret of %d bytes", tls.CipherSuiteName(id), n)
			}
		}
	}
}

// TestAllocations: none for a record with data.
func TestAllocations(t *testing.T) {
	for _, id := range ids() {
		a, b := between(t, id)
		buf := make([]byte, HeaderSize+MaxPlaintext+TailSize)
		for _, size := range []int{1, 100, MaxPlaintext} {
			n := testing.AllocsPerRun(100, func() {
				n, err := a.Seal(buf, size)
				testhost.Must(t, err)
				length, err := Length(buf)
				testhost.Must(t, err)
				if data, err := b.Open(buf[:length]); err != nil || len(data) != size || n != length {
					t.Fatalf("%d bytes of data, %v", len(data), err)
				}
			})
			if n != 0 {
				t.Errorf("%s, %d bytes: %v allocations", tls.CipherSuiteName(id), size, n)
			}
		}
	}
}

// BenchmarkSeal and BenchmarkOpen are of full records.
func BenchmarkSeal(b *testing.B) {
	for _, id := range ids() {
		b.Run(tls.CipherSuiteName(id), func(b *testing.B) {
			s, _ := between(b, id)
			buf := make([]byte, HeaderSize+MaxPlaintext+TailSize)
			b.SetBytes(MaxPlaintext)
			b.ReportAllocs()
			for b.Loop() {
				_, err := s.Seal(buf, MaxPlaintext)
				testhost.Must(b, err)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, id := range ids() {
		b.Run(tls.CipherSuiteName(id), func(b *testing.B) {
			s, o := between(b, id)
			sealed := seal(b, &s.Sealer, typeData, noise(MaxPlaintext)...)
			buf := make([]byte, len(sealed))
			b.SetBytes(MaxPlaintext)
			b.ReportAllocs()
			for b.Loop() {
				o.Opener.keys.seq = 0
				copy(buf, sealed)
				_, err := o.Open(buf)
				testhost.Must(b, err)
			}
		})
	}
}
