// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"testing"

	"tacit/internal/testhost"
)

// FuzzOpen: a record with any bit changed, cut or lengthened is never accepted.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("data"), uint32(0), int16(0))
	f.Add([]byte("data"), uint32(40), int16(-1))
	f.Add([]byte{}, uint32(70), int16(1))
	f.Fuzz(func(t *testing.T, data []byte, bit uint32, more int16) {
		data = data[:min(len(data), MaxPlaintext)]
		for _, id := range ids() {
			a, b := between(t, id)
			record := seal(t, &a.Sealer, typeData, data...)
			good := bytes.Clone(record)
			got, err := b.Open(good)
			testhost.Must(t, err)
			same(t, "data", got, data)

			changed := bytes.Clone(record)
			changed[int(bit/8)%len(changed)] ^= 1 << (bit % 8)
			refused(t, id, changed)
			if length := max(0, len(record)+int(more)); more != 0 {
				resized := append(record, make([]byte, max(0, int(more)))...)[:length]
				refused(t, id, resized)
				if len(resized) >= HeaderSize { // with a header that fits
					n := length - HeaderSize
					resized[3], resized[4] = byte(n>>8), byte(n)
					refused(t, id, resized)
				}
			}
		}
	})
}

// refused opens a record that nobody has sealed.
func refused(t *testing.T, id uint16, record []byte) {
	t.Helper()
	_, b := between(t, id)
	if data, err := b.Open(bytes.Clone(record)); err == nil {
		t.Fatalf("accepted: % x", data)
	}
}

// FuzzContent: whatever an authentic peer sends, Open ends, gives data only of
// data, and stays at its first error.
func FuzzContent(f *testing.F) {
	f.Add([]byte{24, 0, 0, 1, 1, 22, 0, 0}, uint8(1))
	f.Add([]byte{1, 0, 21}, uint8(20))
	f.Add([]byte("data\x17"), uint8(3))
	f.Fuzz(func(t *testing.T, inner []byte, times uint8) {
		inner = inner[:min(len(inner), maxSealed-tagSize)]
		if len(inner) == 0 {
			return
		}
		a, b := between(t, someSuite)
		var first error
		for range int(times) {
			before := b.Opener.keys.seq
			data, err := b.Open(raw(&a.Sealer, inner))
			if first != nil && err != first {
				t.Fatalf("%v after %v", err, first)
			}
			if data != nil && !bytes.Equal(bytes.TrimRight(inner, "\x00"), append(bytes.Clone(data), typeData)) {
				t.Fatalf("data %x of %x", data, inner)
			}
			if first = err; err == nil && b.Opener.keys.seq != before+1 { // the key was changed
				testhost.Must(t, a.Sealer.keys.update())
			}
		}
	})
}

// FuzzLength: a header is judged by itself; a record is never longer than allowed.
func FuzzLength(f *testing.F) {
	f.Add([]byte{23, 3, 3, 1, 0})
	f.Add([]byte{22, 3, 1, 255, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Length(b)
		var v *Violation
		switch {
		case err != nil && (n != 0 || !errors.As(err, &v)):
			t.Fatalf("% x: %d, %v", b, n, err)
		case err == nil && n == 0 && len(b) >= HeaderSize:
			t.Fatalf("% x: a whole header without a length", b)
		case n != 0 && (n < HeaderSize+TailSize || n > MaxRecord || b[0] != typeData):
			t.Fatalf("% x: %d", b, n)
		}
	})
}
