// SPDX-License-Identifier: Apache-2.0

package tproxy

import "tacit/policy"

// end is what one of the two ends has sent and got.
type end struct {
	name          string
	sent, got     int
	eof, fin      bool // FIN of its own, and to it
	reset, wasCut bool // by itself, and by the proxy
	closed        bool
}

func (c *fakeConn) view(name string) end {
	return end{name, c.sent.n, c.got.n, c.eof, c.fin, c.reset, c.ended == "reset", c.ended != ""}
}

func (f *fakeFar) view() end {
	if f == nil {
		return end{name: "the far end"}
	}
	return end{"the far end", f.sent.n, f.got.n, f.eof, f.fin, f.lost, f.resets > 0, f.resets > 0}
}

func (w *world) ends() (end, end) {
	near := w.near.view("the near program")
	if w.second != nil {
		return near, w.second.view("the second program")
	}
	return near, w.far.view()
}

// check compares the ends with what a TCP connection between them would have shown.
func (w *world) check() {
	near, far := w.ends()
	w.direction(near, far)
	w.direction(far, near)
	w.checkMoved()
	if w.second != nil && len(w.s.near.queue) > len(w.s.thread.scratch[0]) {
		w.faults.add("%d bytes are held for a program that doesn't read", len(w.s.near.queue))
	}
	broken := near.reset || far.reset || w.stopped
	switch {
	case len(w.ended) > 1:
		w.faults.add("%d flow records", len(w.ended))
	case !w.over():
		if near.closed || far.closed {
			w.faults.add("an end was closed, and the stream goes on")
		}
	case w.ended[0].End == policy.ReasonClosed:
		w.clean(near, far)
	case !broken:
		w.faults.add("ended with %q for no reason", w.ended[0].End)
	default:
		w.cut(near, far)
	}
}

// direction checks what one end got of the other's bytes.
func (w *world) direction(from, to end) {
	if to.fin && (!from.eof || to.got != from.sent) {
		w.faults.add("%s got FIN after %d of %d bytes; FIN was sent: %t", to.name, to.got, from.sent, from.eof)
	}
	if to.got > from.sent {
		w.faults.add("%s got %d of %d bytes", to.name, to.got, from.sent)
	}
}

func (w *world) clean(near, far end) {
	if !near.fin || !far.fin || near.wasCut || far.wasCut || near.reset || far.reset {
		w.faults.add("a clean end of %+v and %+v", near, far)
	}
	if !near.closed {
		w.faults.add("the near socket is open")
	}
	if w.second != nil && !far.closed {
		w.faults.add("the second socket is open")
	}
}

func (w *world) cut(near, far end) {
	want := map[policy.Reason]bool{policy.ReasonReset: near.reset || (w.second != nil || w.s.route != nil) && far.reset,
		policy.ReasonLane: w.second == nil && far.reset, policy.ReasonChanged: w.stopped}
	if !want[w.ended[0].End] {
		w.faults.add("ended with %q", w.ended[0].End)
	}
	if !near.wasCut {
		w.faults.add("the near program wasn't reset")
	}
	if w.s.route == nil && far.wasCut == (far.reset && w.second == nil) {
		w.faults.add("the far end wasn't reset, or after its end: %+v", far)
	}
}

// delivered says whether everything has arrived, now that there was room for it.
func (w *world) delivered() {
	near, far := w.ends()
	broken := near.reset || far.reset || w.stopped
	switch {
	case broken && !w.over():
		w.faults.add("the stream goes on without an end: %+v, %+v", near, far)
	case broken && !w.late && !w.expired && !w.stopped && !far.reset && far.got != near.sent && !near.eof:
		w.faults.add("the reset came before the bytes: %d of %d", far.got, near.sent)
	case broken:
	case far.got != near.sent || near.got != far.sent || near.eof != far.fin || far.eof != near.fin:
		w.faults.add("bytes or FIN didn't arrive: %+v, %+v", near, far)
	case (near.eof && far.eof) != w.over():
		w.faults.add("over: %t, FIN: %t, %t", w.over(), near.eof, far.eof)
	case w.far != nil && !w.over() && w.far.took != near.got:
		w.faults.add("credit for %d of %d bytes", w.far.took, near.got)
	}
}
