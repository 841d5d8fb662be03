// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tacit/tproxy/record"
)

// clear seals without a cipher: the record is the header, the plaintext and a tail. It
// wants another key after each every records.
type clear struct {
	every, n, updates int
	late              bool // a record was sealed although the key had to be changed long ago
}

func (c *clear) Seal(b []byte, n int) (int, error) {
	c.n++
	c.late = c.late || c.every > 0 && c.n > c.every+64
	binary.BigEndian.PutUint16(b[3:], uint16(n+recordTail))
	b[recordHead+n] = 23
	return recordHead + n + recordTail, nil
}

func (c *clear) NeedUpdate() bool { return c.every > 0 && c.n >= c.every }

func (c *clear) Update(b []byte) (int, error) {
	c.n, c.updates = 0, c.updates+1
	binary.BigEndian.PutUint16(b[3:], record.UpdateSize-recordHead)
	b[recordHead] = 22
	return record.UpdateSize, nil
}

// got is what a peer reads of a stream of records.
type got struct {
	streams map[uint32][]byte
	others  []Header
	records int
}

func read(t *testing.T, b []byte) got {
	t.Helper()
	g := got{streams: map[uint32][]byte{}}
	for len(b) > 0 {
		n := recordHead + int(binary.BigEndian.Uint16(b[3:]))
		if n > recordFull {
			t.Fatalf("a record of %d bytes", n)
		}
		plain := b[recordHead : n-recordTail]
		if update := n == record.UpdateSize && b[recordHead] == 22; !update {
			g.records++
			for len(plain) > 0 {
				h, payload, rest, err := Next(plain)
				if err != nil {
					t.Fatal(err)
				}
				if h.Kind == Data {
					g.streams[h.Stream] = append(g.streams[h.Stream], payload...)
				} else {
					g.others = append(g.others, h)
				}
				plain = rest
			}
		}
		b = b[n:]
	}
	return g
}

// TestWriter: whatever is written in whatever pieces comes out, in order, in whole
// records, also where the connection takes little at a time and keys are changed.
func TestWriter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		s := &clear{every: r.IntN(3) * 5}
		w := NewWriter(s, &Buffers{})
		var wire []byte
		sent, others := map[uint32][]byte{}, 0
		for range 60 {
			switch r.IntN(4) {
			case 0:
				w.Append(Reset, 1+r.Uint32N(5), make([]byte, r.IntN(MaxReason)))
				others++
			case 1, 2:
				stream, limit := 1+r.Uint32N(5), 1+r.IntN(1<<r.IntN(20))
				total := 0
				for _, a := range w.Areas(limit, r.IntN(2) == 0) {
					for i := range a {
						a[i] = byte(r.Uint32())
					}
					total += len(a)
				}
				if total > limit {
					t.Fatalf("room for %d bytes of %d", total, limit)
				}
				n := 0
				if total > 0 {
					n = r.IntN(total + 1)
				}
				left := n
				for _, a := range w.areas {
					k := min(left, len(a))
					sent[stream] = append(sent[stream], a[:k]...)
					left -= k
				}
				w.Commit(stream, n)
			case 3:
				b := w.Finish()
				k := len(b)
				if r.IntN(2) == 0 {
					k = r.IntN(len(b) + 1)
				}
				wire = append(wire, b[:k]...)
				w.Wrote(k)
			}
		}
		for b := w.Finish(); len(b) > 0; b = w.Finish() {
			k := 1 + r.IntN(len(b))
			wire = append(wire, b[:k]...)
			w.Wrote(k)
		}
		g := read(t, wire)
		if len(g.others) != others || w.Pending() != 0 || w.buf != nil || w.Err() != nil || s.late {
			t.Fatalf("%d of %d other frames, %d bytes pending, %v; key used for too long: %v", len(g.others), others, w.Pending(), w.Err(), s.late)
		}
		for stream, want := range sent {
			if !bytes.Equal(g.streams[stream], want) {
				t.Fatalf("stream %d: %d bytes came, %d were sent", stream, len(g.streams[stream]), len(want))
			}
		}
	}
}

// TestCombines: what is collected before a write is one record, and bulk fills records.
func TestCombines(t *testing.T) {
	w := NewWriter(&clear{}, &Buffers{})
	for stream := range uint32(50) {
		copy(w.Areas(100, false)[0], "hello")
		w.Commit(stream+1, 5)
	}
	if g := read(t, w.Finish()); g.records != 1 || len(g.streams) != 50 {
		t.Errorf("%d records for %d messages", g.records, len(g.streams))
	}
	w = NewWriter(&clear{}, &Buffers{})
	areas := w.Areas(1<<20, true)
	if len(areas) != BufferSize/recordFull {
		t.Fatalf("%d areas", len(areas))
	}
	w.Commit(1, len(areas)*MaxPayload)
	if g := read(t, w.Finish()); g.records != len(areas) || len(g.streams[1]) != len(areas)*MaxPayload {
		t.Errorf("%d records for %d bytes", g.records, len(g.streams[1]))
	}
	if more := w.Areas(1<<20, true); len(more) > 0 {
		t.Errorf("room for %d bytes in a full buffer", len(more[0]))
	}
}

// TestAllocations: a message costs none.
func TestAllocations(t *testing.T) {
	w, body := NewWriter(&clear{}, &Buffers{}), []byte("hello")
	if n := testing.AllocsPerRun(1000, func() {
		copy(w.Areas(100, false)[0], body)
		w.Commit(1, len(body))
		w.Wrote(len(w.Finish()))
	}); n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

// FuzzNext: no bytes make it panic, and what it takes is what a Writer writes.
func FuzzNext(f *testing.F) {
	w := NewWriter(&clear{}, &Buffers{})
	w.Append(Open, 1, []byte("x"))
	w.Append(Prove, 0, []byte("y"))
	w.Append(Credit, 7, Granting(9))
	f.Add(w.Finish()[recordHead:])
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			h, payload, rest, err := Next(b)
			if err != nil {
				return
			}
			again := make([]byte, HeaderSize)
			h.put(again)
			if !bytes.Equal(append(again, payload...), b[:len(b)-len(rest)]) || h.Kind.String() == "" {
				t.Fatalf("%x became %+v", b, h)
			}
			b = rest
		}
	})
}

// TestDataKeepsToTheBuffer: while nothing is written, frames other than Data make the
// buffer grow; Data doesn't use that room. Otherwise a connection that is slow, but
// alive, would get ever more that waits to be written.
func TestDataKeepsToTheBuffer(t *testing.T) {
	w := NewWriter(&clear{}, &Buffers{})
	fill := func() {
		for areas := w.Areas(1<<30, true); len(areas) > 0; areas = w.Areas(1<<30, true) {
			n := 0
			for _, a := range areas {
				n += len(a)
			}
			w.Commit(1, n)
		}
	}
	fill()
	const others = 10
	for range others {
		w.Append(Credit, 1, Granting(1))
		w.Finish()
		fill()
	}
	if most := BufferSize + others*(recordHead+HeaderSize+creditSize+recordTail); w.Pending() > most {
		t.Errorf("%d bytes wait, at most %d should", w.Pending(), most)
	}
}
