// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/policy"
)

// TestHalfSentFrames: a lane whose peer stops in the middle of a frame or of a
// record ends within 5 s, with a reason. One that carries nothing stays, and so
// does one whose stream nobody reads here.
func TestHalfSentFrames(t *testing.T) {
	m := newMesh(t)
	a, b := m.host("a", "web"), m.host("b", "db")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	b.cfg.Accept = func(in *Arrival) {
		<-release // reads nothing
		in.Refuse(policy.ReasonClosed)
	}
	frame := appendFrame(nil, kindOpen, 1, Opening{Source: "web", Destination: "db"}.encode())
	send := func(l *lane, part []byte) error { _, err := l.conn.Write(part); return err }
	cases := []struct {
		name string
		does func(*lane) error
		ends bool
	}{
		{"nothing", func(*lane) error { return nil }, false},
		{"half a header", func(l *lane) error { return send(l, frame[:3]) }, true},
		{"a header", func(l *lane) error { return send(l, frame[:headerSize]) }, true},
		{"half a frame", func(l *lane) error { return send(l, frame[:headerSize+2]) }, true},
		{"half a record", func(l *lane) error { _, err := l.tcp.Write([]byte{23, 3, 3, 1, 0, 1, 2, 3}); return err }, true},
		{"a byte of a record", func(l *lane) error { _, err := l.tcp.Write([]byte{23}); return err }, true},
		{"a stream that nobody reads", func(l *lane) error {
			go func() { // until the lane ends
				data := appendFrame(nil, kindData, 1, make([]byte, payloadSize))
				for err := send(l, frame); err == nil; err = send(l, data) {
				}
			}()
			return nil
		}, false},
	}
	begin := time.Now()
	var lanes []*lane
	for _, c := range cases {
		l := dial(t, a, b)
		testhost.Must(t, c.does(l))
		lanes = append(lanes, l)
	}
	open := func() (n int) { return len(b.List()) }
	testhost.Eventually(t, 10*time.Second, "the lanes with halves end", func() error {
		b.Upkeep(time.Now())
		if n := open(); n > 2 || b.Cut()[policy.ReasonSlow] != 5 {
			return fmt.Errorf("%d lanes are left, cut %v", n, b.Cut())
		}
		return nil
	})
	took := time.Since(begin)
	t.Logf("ended after %s", took)
	if took < frameTimeout {
		t.Errorf("ended after %s: the peer had no time", took)
	}
	for i, c := range cases {
		_ = lanes[i].conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := lanes[i].readFrame(); errors.Is(err, ErrWoken) == c.ends {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := open(); n != 2 {
		t.Errorf("%d lanes are left", n)
	}
}

// TestPeerLanes: one peer has no more lanes here than its limit; another has its own.
func TestPeerLanes(t *testing.T) {
	m := newMesh(t)
	a, c, b := m.host("a", "web"), m.host("c", "web"), m.host("b", "db")
	b.cfg.PeerLanes = 3
	for range 5 {
		dial(t, a, b)
	}
	testhost.Eventually(t, 5*time.Second, "two are refused", func() error {
		if b.Cut()[policy.ReasonLimit] != 2 || len(b.List()) != 3 {
			return fmt.Errorf("cut %v, %d lanes", b.Cut(), len(b.List()))
		}
		return nil
	})
	c.ask(b.port, "db")
}
