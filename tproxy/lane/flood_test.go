// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/record"
)

// batch sends frames as many to a record as there is room for, until the lane ends or
// all are sent.
func (m *malicious) batch(n int, frames func(i int) []byte) {
	var record []byte
	for i := range n {
		f := frames(i)
		if len(record)+len(f) > frame.MaxPayload {
			if m.send(record) != nil {
				return
			}
			record = record[:0]
		}
		record = append(record, f...)
	}
	_ = m.send(record)
}

// TestBadPeer: an authenticated peer floods a node with what is allowed one by one. The
// node holds little, cuts the offender with the reason, and serves others meanwhile.
func TestBadPeer(t *testing.T) {
	const streams = 100_000
	full := make([]byte, frame.MaxPayload)
	cases := map[string]struct {
		does  func(m *malicious, a *host)
		reads bool
		cut   policy.Reason
	}{
		"opens 100,000 streams": {func(m *malicious, _ *host) {
			m.batch(streams, func(i int) []byte { return opening(uint32(i+1), "silent") })
		}, true, policy.ReasonLimit},
		"opens 100,000 streams that are answered": {func(m *malicious, _ *host) {
			m.batch(streams, func(i int) []byte { return opening(uint32(i+1), "db") })
		}, true, policy.ReasonLimit},
		"opens and resets": {func(m *malicious, _ *host) {
			m.batch(streams, func(i int) []byte {
				return append(opening(uint32(i+1), "silent"), bytesOf(frame.Reset, uint32(i+1), nil)...)
			})
		}, true, policy.ReasonLimit},
		"resets what is over": {func(m *malicious, _ *host) {
			_ = m.send(opening(1, "db"))
			m.batch(streams, func(int) []byte { return bytesOf(frame.Reset, 1, nil) })
		}, true, policy.ReasonLimit},
		"opens, and sends to where nobody reads": {func(m *malicious, _ *host) {
			for i := range 2000 {
				_ = m.send(opening(uint32(i+1), "silent"))
				for range credit.First / frame.MaxPayload {
					if m.send(bytesOf(frame.Data, uint32(i+1), full)) != nil {
						return
					}
				}
			}
			_ = m.tcp.Close()
		}, true, ""},
		"never reads": {func(m *malicious, _ *host) {
			_ = m.send(opening(1, "db"), bytesOf(frame.Credit, 1, frame.Granting(1<<29)))
			for range 4 { // its echo
				_ = m.send(bytesOf(frame.Data, 1, full))
			}
			tick := time.NewTicker(time.Millisecond) // it does something all the time, so that it isn't silent
			defer tick.Stop()
			for i := 2; m.send(opening(uint32(i), "chatter"), bytesOf(frame.Credit, uint32(i), frame.Granting(1<<29))) == nil; i++ {
				<-tick.C
			}
		}, false, policy.ReasonSlow},
		"floods PING": {func(m *malicious, _ *host) {
			m.batch(streams, func(int) []byte { return bytesOf(frame.Ping, 0, nil) })
		}, true, policy.ReasonLimit},
		"floods PING and never reads": {func(m *malicious, _ *host) {
			m.batch(streams, func(int) []byte { return bytesOf(frame.Ping, 0, nil) })
		}, false, policy.ReasonLimit},
		"floods RETIRE": {func(m *malicious, _ *host) {
			m.batch(streams, func(int) []byte { return bytesOf(frame.Retire, 0, nil) })
			_ = m.tcp.Close()
		}, true, ""},
		"floods ANSWER": {func(m *malicious, _ *host) {
			_ = m.send(opening(1, "db"), bytesOf(frame.Answer, 1, nil))
		}, true, policy.ReasonProtocol},
		"sends of unproven services": {func(m *malicious, _ *host) {
			other := bytes.Replace(opening(1, "db"), []byte("web"), []byte("bew"), 1)
			m.batch(streams, func(i int) []byte { return bytesOf(frame.Open, uint32(i+1), other[frame.HeaderSize:]) })
			_ = m.tcp.Close()
		}, true, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			testhost.VerifyNone(t)
			mesh := newMesh(t)
			a, c := mesh.host(Config{}, "a", "web"), mesh.host(Config{}, "c", "web")
			release := make(chan struct{})
			b := mesh.host(Config{Accept: func(in *Arrival) {
				switch in.Destination {
				case "silent":
					<-release
					in.Refuse(policy.ReasonClosed)
				case "chatter":
					accepting(func() User { return &chatter{text: full[:]} })(in)
				default:
					accepting(func() User { return &echo{} })(in)
				}
			}}, "b", "db", "silent", "chatter")
			t.Cleanup(func() { close(release) })
			end := keepUp(t, b)
			m := attack(t, a, b)
			testhost.Must(t, m.send(m.proof(identity.RoleClient, a.services["web"])))
			if tc.reads {
				m.swallow()
			}
			c.ask(b.port, "db")
			begin, asked, done := time.Now(), 0, make(chan struct{})
			peak := watchHeap(done)
			go func() {
				defer close(done)
				tc.does(m, a)
			}()
			for over := false; !over; asked++ {
				c.ask(b.port, "db")
				select {
				case <-done:
					over = true
				default:
				}
			}
			if tc.cut != "" {
				testhost.Eventually(t, 10*time.Second, "it is cut", func() error { return counted(b, tc.cut, 1) })
			}
			c.ask(b.port, "db")
			b.lanes(1)
			grown := <-peak
			t.Logf("%s, %d streams of others meanwhile, heap grew by %d KiB, cut %v", time.Since(begin), asked, grown>>10, b.Cut())
			if grown > 128<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
			end()
		})
	}
}

// chatter sends as much as it may.
type chatter struct {
	echo
	text []byte
}

func (c *chatter) Opened(s *Stream) {
	c.echo.Opened(s)
	c.Room()
}

func (c *chatter) Room() {
	for len(push(c.s, c.text)) == 0 {
	}
}

// keepUp calls Upkeep as the proxy does, until the function that it returns is called.
func keepUp(t *testing.T, h *host) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(UpkeepPeriod)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				h.Upkeep(now)
			}
		}
	})
	end = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(end)
	return end
}

// watchHeap gives by how much the live heap has grown at most until done is closed.
func watchHeap(done <-chan struct{}) <-chan uint64 {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	base, grown := heap(), make(chan uint64, 1)
	go func() {
		most := base
		for {
			select {
			case <-done:
				grown <- max(most, heap()) - base
				return
			case <-time.After(100 * time.Millisecond):
				most = max(most, heap())
			}
		}
	}()
	return grown
}

// TestKeyUpdates: a peer that changes its key all the time is cut; some changes are
// allowed, also in the middle of a stream's bytes.
func TestKeyUpdates(t *testing.T) {
	for name, c := range map[string]struct {
		updates int
		cut     bool
	}{"few": {10, false}, "flood": {1000, true}} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			tcp, err := net.Dial("tcp", b.port.Addr.String())
			testhost.Must(t, err)
			defer tcp.Close()
			conn, err := record.Client(tcp, identity.ClientTLS(a, identity.ALPNLane, b.node.ID, nil))
			testhost.Must(t, err)
			testhost.Must(t, conn.HandshakeContext(t.Context()))
			layer, _, err := record.Take(conn)
			testhost.Must(t, err)
			var out []byte
			for range c.updates {
				rec := make([]byte, 256)
				n, err := layer.Update(rec)
				testhost.Must(t, err)
				out = append(out, rec[:n]...)
				k := copy(rec[record.HeaderSize:], bytesOf(frame.Ping, 0, nil))
				n, err = layer.Seal(rec, k)
				testhost.Must(t, err)
				out = append(out, rec[:n]...)
			}
			_, err = tcp.Write(out)
			testhost.Must(t, err)
			_ = tcp.SetReadDeadline(time.Now().Add(5 * time.Second))
			if !c.cut {
				_, err = tcp.Read(make([]byte, 100)) // PONG
				testhost.Must(t, err)
				return
			}
			for err == nil {
				_, err = tcp.Read(make([]byte, 1<<16))
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the lane goes on")
			}
			testhost.Eventually(t, 5*time.Second, "it is counted", func() error { return counted(b, policy.ReasonProtocol, 1) })
		})
	}
}
