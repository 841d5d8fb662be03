// SPDX-License-Identifier: Apache-2.0

package frame

import "tacit/tproxy/record"

// Sealer seals TLS records in place: *record.Layer.
type Sealer interface {
	// Seal seals the record at the front of b, whose plaintext of n bytes begins
	// after recordHead bytes, and returns the record's length: n and recordHead and
	// recordTail.
	Seal(b []byte, n int) (int, error)
	// NeedUpdate says that the key must be changed before the next record, but for some
	// that were begun, by the record that Update puts at the front of b.
	NeedUpdate() bool
	Update(b []byte) (int, error)
}

// Sizes of a record in bytes.
const (
	recordHead = record.HeaderSize
	recordTail = record.TailSize
	recordSize = record.MaxPlaintext
	recordFull = recordHead + recordSize + recordTail
)

// BufferSize is how many bytes a Writer collects for one write.
const BufferSize = 16 * recordFull

// Writer collects frames in records, and records in one buffer:
//
//	buf  | written | sealed records, to be written | the open record | free |
//	     0         sent                            sealed             sealed+recordHead+open
//
// A record is sealed when it is full, or when what was collected is to be written.
// Payloads of Data are read from a program's socket directly into the place from which
// they are sealed.
type Writer struct {
	sealer             Sealer
	buffers            *Buffers
	buf                []byte
	sent, sealed, open int
	areas              [][]byte // the last result of Areas
	err                error
}

// NewWriter makes a Writer that takes its buffer from the pool while it has something
// to be written.
func NewWriter(s Sealer, b *Buffers) *Writer { return &Writer{sealer: s, buffers: b} }

// Buffers recycles buffers. It belongs to one loop.
type Buffers struct{ free [][]byte }

const keptBuffers = 4

func (p *Buffers) get() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, BufferSize)
}

func (p *Buffers) put(b []byte) {
	if len(b) == BufferSize && len(p.free) < keptBuffers {
		p.free = append(p.free, b)
	}
}

// Append adds a frame. It makes the buffer grow where there is no room: frames other
// than Data don't wait.
func (w *Writer) Append(k Kind, stream uint32, payload []byte) {
	need := HeaderSize + len(payload)
	w.ready()
	if w.open > 0 && recordSize-w.open < need {
		w.seal()
	}
	w.grow(w.sealed + recordHead + w.open + need + recordTail)
	at := w.buf[w.sealed+recordHead+w.open:]
	Header{k, len(payload), stream}.put(at)
	copy(at[HeaderSize:], payload)
	w.open += need
}

// ready takes a buffer where there is none, and changes the key where that is due.
func (w *Writer) ready() {
	if w.buf == nil {
		w.buf = w.buffers.get()
	}
	if w.sealer.NeedUpdate() && w.err == nil {
		w.update()
	}
}

// update puts a change of the key before the open record.
func (w *Writer) update() {
	end := w.sealed + recordHead + w.open
	w.grow(end + record.UpdateSize + recordTail)
	copy(w.buf[w.sealed+record.UpdateSize:], w.buf[w.sealed:end])
	n, err := w.sealer.Update(w.buf[w.sealed:])
	w.sealed, w.err = w.sealed+n, err
}

// least is the room in an open record below which a Data begins the next one.
const least = 1024

// Areas returns where the payload of Data may be put, at most limit bytes: the rest of
// the open record, and whole further records if wide. It returns none where the buffer
// is full: what other frames made it grow by isn't for Data. The result is valid until the next call of any method.
func (w *Writer) Areas(limit int, wide bool) [][]byte {
	w.ready()
	w.areas = w.areas[:0]
	if w.open > 0 && recordSize-w.open-HeaderSize < min(limit, least) {
		w.seal()
	}
	record, used := w.sealed, w.open
	for limit > 0 {
		from := record + recordHead + used + HeaderSize
		room := min(limit, recordSize-used-HeaderSize, BufferSize-recordTail-from)
		if room < min(limit, least) {
			break
		}
		w.areas = append(w.areas, w.buf[from:from+room])
		limit -= room
		record, used = record+recordFull, 0
		if !wide {
			break
		}
	}
	return w.areas
}

// Commit makes n bytes that were put into the last Areas, in their order, Data of a
// stream. n is 0 where none were: a Writer that holds nothing needs no buffer.
func (w *Writer) Commit(stream uint32, n int) {
	for i := 0; n > 0; i++ {
		if i > 0 {
			w.seal()
		}
		k := min(n, len(w.areas[i]))
		Header{Data, k, stream}.put(w.buf[w.sealed+recordHead+w.open:])
		w.open += HeaderSize + k
		n -= k
	}
	w.areas = w.areas[:0]
	w.release()
}

// release gives the buffer back if there is nothing in it.
func (w *Writer) release() {
	if w.buf != nil && w.sent == w.sealed && w.open == 0 {
		w.buffers.put(w.buf)
		w.buf, w.sent, w.sealed = nil, 0, 0
	}
}

// seal closes the open record. After an error nothing more is sealed.
func (w *Writer) seal() {
	if w.open == 0 || w.err != nil {
		return
	}
	n, err := w.sealer.Seal(w.buf[w.sealed:], w.open)
	w.sealed, w.open, w.err = w.sealed+n, 0, err
}

// Err is why a record could not be sealed: the connection is at its end.
func (w *Writer) Err() error { return w.err }

// Finish seals what was collected, and returns what is to be written.
func (w *Writer) Finish() []byte {
	if w.open > 0 || w.sealer.NeedUpdate() {
		w.ready()
	}
	w.seal()
	return w.buf[w.sent:w.sealed]
}

// Extra adds a record of at most size bytes that isn't one of frames, after what was
// collected. Seal puts it at the front of a buffer and returns its length.
func (w *Writer) Extra(size int, seal func(b []byte) (int, error)) {
	w.ready()
	w.seal()
	if w.err != nil {
		return
	}
	w.grow(w.sealed + size)
	n, err := seal(w.buf[w.sealed:])
	w.sealed, w.err = w.sealed+n, err
}

// grow makes the buffer at least n bytes long.
func (w *Writer) grow(n int) {
	if n > len(w.buf) {
		w.buf = append(w.buf, make([]byte, max(n-len(w.buf), len(w.buf)/2))...)
	}
}

// Wrote says that n bytes of Finish's result were written.
func (w *Writer) Wrote(n int) {
	w.sent += n
	w.release()
}

// Pending is how many bytes wait to be written.
func (w *Writer) Pending() int {
	n := w.sealed - w.sent
	if w.open > 0 {
		n += recordHead + w.open + recordTail
	}
	return n
}

// Drop gives the buffer back: nothing will be written any more.
func (w *Writer) Drop() {
	w.buffers.put(w.buf)
	*w = Writer{sealer: w.sealer, buffers: w.buffers}
}
