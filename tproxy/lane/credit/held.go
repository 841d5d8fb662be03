// SPDX-License-Identifier: Apache-2.0

package credit

import "sync/atomic"

// Held is how many bytes the streams of one peer make this node hold, up to First each:
// what is beyond comes from the Budget. A peer with many streams whose programs don't
// read, or that nobody has taken yet, would make it hold First for each of them.
type Held struct{ n atomic.Int64 }

const (
	heldLimit = 32 << 20 // beyond, streams that hold more than heldShare are ended
	heldMost  = 64 << 20 // beyond, every stream for which bytes come
	heldShare = 16 << 10 // a program that keeps up leaves less
)

// Bytes is how many are held.
func (h *Held) Bytes() int64 { return h.n.Load() }

// Keep says whether the n bytes that have arrived may be held; if not, the stream must
// be ended.
func (w *Window) Keep(n int, h *Held) bool {
	total := h.n.Add(w.hold(n))
	return total <= heldLimit || total <= heldMost && w.held <= heldShare
}

// Release says that n bytes aren't held any more.
func (w *Window) Release(n int, h *Held) { h.n.Add(w.hold(-n)) }

// hold changes what is held, and returns by how much the part up to First changes.
func (w *Window) hold(n int) int64 {
	before := min(w.held, First)
	w.held += n
	return int64(min(w.held, First) - before)
}
