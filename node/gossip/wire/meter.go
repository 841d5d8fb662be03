// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"tacit/identity"
)

// limit is a token bucket: burst at once, then rate a second.
type limit struct{ rate, burst float64 }

// What one member may send. The state of a large mesh is 20 MiB, and both ends
// exchange it every 15 s.
func limits() (packets, bytes, streams, forged limit) {
	return limit{1000, 5000}, limit{4 << 20, 48 << 20}, limit{10, 100}, limit{1.0 / 60, 8}
}

const (
	cutTime   = time.Minute     // how long an offender is cut off
	overLimit = 3 * time.Second // how long a member may go on above a limit before it is cut off
)

var (
	errFlood   = errors.New("it goes on sending more than a member may")
	errForgery = errors.New("it sent records or messages that are damaged or forged")
)

// meter counts what members send, and cuts off those that flood this node: nothing
// of theirs is read for cutTime.
type meter struct {
	now    func() time.Time
	onCut  func(member identity.Name, why error)
	mu     sync.Mutex
	closed bool
	byName map[identity.Name]*sender
}

type sender struct {
	packets, bytes, streams, forged bucket
	over                            time.Time // when it first went above a limit; zero: it doesn't
	until                           time.Time // cut off
	timer                           *time.Timer
}

func newMeter(onCut func(identity.Name, error)) *meter {
	return &meter{now: time.Now, onCut: onCut, byName: map[identity.Name]*sender{}}
}

// sender returns a member's counts; m.mu is held.
func (m *meter) sender(name identity.Name) *sender {
	s := m.byName[name]
	if s == nil {
		packets, bytes, streams, forged := limits()
		s = &sender{packets: bucket{limit: packets}, bytes: bucket{limit: bytes}, streams: bucket{limit: streams}, forged: bucket{limit: forged}}
		m.byName[name] = s
	}
	return s
}

// packet counts a packet of n bytes; false: drop it.
func (m *meter) packet(from identity.Name, n int) bool {
	return m.spend(from, func(s *sender, now time.Time) bool { return s.packets.take(now, 1) && s.bytes.take(now, float64(n)) })
}

// stream counts an opened stream; false: close it.
func (m *meter) stream(from identity.Name) bool {
	return m.spend(from, func(s *sender, now time.Time) bool { return s.streams.take(now, 1) })
}

// take counts n bytes of a stream; false: close it.
func (m *meter) take(from identity.Name, n int) bool {
	return m.spend(from, func(s *sender, now time.Time) bool { return s.bytes.take(now, float64(n)) })
}

func (m *meter) spend(from identity.Name, take func(*sender, time.Time) bool) bool {
	m.mu.Lock()
	s, now := m.sender(from), m.now()
	if now.Before(s.until) {
		m.mu.Unlock()
		return false
	}
	ok := take(s, now)
	cut := s.judge(ok, now)
	m.mu.Unlock()
	if cut {
		m.cut(from, errFlood)
	}
	return ok
}

// judge reports whether the sender must be cut off.
func (s *sender) judge(ok bool, now time.Time) bool {
	switch {
	case ok && !s.over.IsZero() && now.Sub(s.over) > 2*overLimit:
		s.over = time.Time{}
	case !ok && s.over.IsZero():
		s.over = now
	case !ok && now.Sub(s.over) >= overLimit:
		s.over = time.Time{}
		return true
	}
	return false
}

// forgery counts n forged records or messages.
func (m *meter) forgery(from identity.Name, n int) {
	m.mu.Lock()
	s, now := m.sender(from), m.now()
	cut := n > 0 && !now.Before(s.until) && !s.forged.take(now, float64(n))
	m.mu.Unlock()
	if cut {
		m.cut(from, errForgery)
	}
}

func (m *meter) isCut(name identity.Name) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.byName[name]
	return s != nil && m.now().Before(s.until)
}

func (m *meter) cut(name identity.Name, why error) {
	m.mu.Lock()
	s := m.sender(name)
	if m.closed || m.now().Before(s.until) {
		m.mu.Unlock()
		return
	}
	s.until = m.now().Add(cutTime)
	s.timer = time.AfterFunc(cutTime, func() { m.hear(name) })
	m.mu.Unlock()
	m.onCut(name, fmt.Errorf("%s is cut off from gossip for %v: %w", name, cutTime, why))
}

// hear lets a member in again.
func (m *meter) hear(name identity.Name) {
	m.mu.Lock()
	delete(m.byName, name)
	closed := m.closed
	m.mu.Unlock()
	if !closed {
		m.onCut(name, nil)
	}
}

func (m *meter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, s := range m.byName {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
}

// bucket is the state of one limit.
type bucket struct {
	limit
	used float64
	at   time.Time
}

// take spends n tokens; false: there aren't as many, and none is spent.
func (b *bucket) take(now time.Time, n float64) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.used+n > b.burst {
		return false
	}
	b.used += n
	return true
}
