// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"testing"
	"testing/synctest"

	"tacit/policy"
	"tacit/tproxy/lane"
)

// fakeEnd ends after no byte: its first read is FIN, the next one waits.
type fakeEnd struct {
	ended      bool
	woken      chan struct{} // ends the second read
	closeWrite func()
}

func (e *fakeEnd) Read() (*lane.Block, int, error) {
	if !e.ended {
		e.ended = true
		return nil, 0, io.EOF
	}
	<-e.woken
	return nil, 0, lane.ErrWoken
}

func (e *fakeEnd) CloseWrite() error { e.closeWrite(); return nil }

func (e *fakeEnd) Write(*lane.Block, int) error { return nil }
func (e *fakeEnd) Wake()                        {}
func (e *fakeEnd) Interrupt()                   {}
func (e *fakeEnd) Reset(policy.Reason)          {}
func (e *fakeEnd) Dead() bool                   { return false }
func (e *fakeEnd) Close()                       {}

// TestNextStreamAtOnce: the peer may open the lane's next stream as soon as it has
// this end's FIN, which ends the read of the stream that is over. It isn't reset.
func TestNextStreamAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := &fakeEnd{woken: make(chan struct{})}, &fakeEnd{woken: make(chan struct{})}
		first := make(chan struct{})
		near.closeWrite = func() { close(first) }
		far.closeWrite = func() {
			<-first
			synctest.Wait() // the reader of far waits for the end
			close(far.woken)
			synctest.Wait()
			close(near.woken)
		}
		s := &stream{p: &Proxy{}, near: near, far: far}
		s.run()
		if s.end != "" {
			t.Errorf("ended with %q, want no reason", s.end)
		}
	})
}
