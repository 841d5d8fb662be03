// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"fmt"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
)

// TestHalfSentFrames: a lane whose peer stops in the middle of a record ends within 5 s,
// with a reason. One that carries nothing stays, and so does one whose stream nobody
// reads here.
func TestHalfSentFrames(t *testing.T) {
	testhost.VerifyNone(t)
	m := newMesh(t)
	a, other := m.host(Config{}, "a", "web"), m.host(Config{}, "c", "web") // lanes of a peer with streams would be asked all
	release := make(chan struct{})
	b := m.host(Config{Accept: func(in *Arrival) {
		<-release // takes nothing
		in.Refuse(policy.ReasonClosed)
	}}, "b", "db")
	t.Cleanup(func() { close(release) })
	cases := []struct {
		name string
		by   *host
		does func(*malicious) error
		ends bool
	}{
		{"nothing", a, func(*malicious) error { return nil }, false},
		{"half a record", a, func(m *malicious) error { _, err := m.tcp.Write([]byte{23, 3, 3, 1, 0, 1, 2, 3}); return err }, true},
		{"a byte of a record", a, func(m *malicious) error { _, err := m.tcp.Write([]byte{23}); return err }, true},
		{"half a record behind a whole one", a, func(m *malicious) error {
			if err := m.send(bytesOf(frame.Ping, 0, nil)); err != nil {
				return err
			}
			_, err := m.tcp.Write([]byte{23, 3, 3, 1})
			return err
		}, true},
		{"a stream that nobody takes", other, func(m *malicious) error {
			return m.send(opening(1, "db"), bytesOf(frame.Data, 1, make([]byte, frame.MaxPayload)))
		}, false},
	}
	begin := time.Now()
	ended := make([]chan error, len(cases))
	for i, c := range cases {
		m := attack(t, c.by, b)
		testhost.Must(t, c.does(m))
		ended[i] = make(chan error, 1)
		go func() {
			for {
				h, _, err := m.next()
				if err == nil && h.Kind == frame.Ping {
					err = m.send(bytesOf(frame.Pong, 0, nil))
				}
				if err != nil {
					ended[i] <- err
					return
				}
			}
		}()
	}
	testhost.Eventually(t, 10*time.Second, "the lanes with halves end", func() error {
		b.Upkeep(time.Now())
		if n := len(b.List()); n > 2 || b.Cut()[policy.ReasonSlow] != 3 {
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
		if c.ends {
			<-ended[i]
		} else if len(ended[i]) > 0 {
			t.Errorf("%s: the lane ended: %v", c.name, <-ended[i])
		}
	}
	b.lanes(2)
}

// TestPeerLanes: one peer has no more lanes here than its limit; another has its own.
func TestPeerLanes(t *testing.T) {
	testhost.VerifyNone(t)
	m := newMesh(t)
	a, c := m.host(Config{}, "a", "web"), m.host(Config{}, "c", "web")
	b := m.host(Config{Limits: Limits{PeerLanes: 3}}, "b", "db")
	var all []*malicious
	for range 5 {
		all = append(all, attack(t, a, b))
	}
	testhost.Eventually(t, 5*time.Second, "two are refused", func() error {
		if b.Cut()[policy.ReasonLimit] != 2 || len(b.List()) != 3 {
			return fmt.Errorf("cut %v, %d lanes", b.Cut(), len(b.List()))
		}
		return nil
	})
	c.ask(b.port, "db")
	for _, m := range all {
		_ = m.tcp.Close()
	}
	b.lanes(1)
	a.ask(b.port, "db") // its places are free again
}

// TestPeerShare: a peer may have as many streams open as its share allows; others have
// theirs.
func TestPeerShare(t *testing.T) {
	mesh := newMesh(t)
	a, c := mesh.host(Config{}, "a", "web"), mesh.host(Config{}, "c", "web")
	b := mesh.host(Config{Share: func() int { return 3 }, Accept: accepting(func() User { return &echo{} })}, "b", "db")
	m := attack(t, a, b)
	testhost.Must(t, m.send(m.proof(identity.RoleClient, a.services["web"]), opening(1, "db"), opening(2, "db"), opening(3, "db"), opening(4, "db")))
	h, payload, err := m.until(frame.Reset)
	if err != nil || h.Stream != 4 || policy.Reason(payload) != policy.ReasonLimit {
		t.Errorf("stream %d %q, %v; want that the fourth is reset for the limit", h.Stream, payload, err)
	}
	c.ask(b.port, "db")
}
