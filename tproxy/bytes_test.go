// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"tacit/policy"
	"tacit/tproxy/socket"
)

// TestBytes: bytes, FIN and RST pass as over TCP, over a lane and on one node.
func TestBytes(t *testing.T) {
	big := random(8 << 20)
	cases := []struct {
		name    string
		program func(t *testing.T, c *net.TCPConn)
		client  func(t *testing.T, c *net.TCPConn)
		end     policy.Reason
	}{
		{"echo", func(_ *testing.T, c *net.TCPConn) { echo(c) }, func(t *testing.T, c *net.TCPConn) {
			go func() { _, _ = c.Write(big[:3<<20]); _ = c.CloseWrite() }()
			wantBytes(t, c, big[:3<<20])
		}, policy.ReasonClosed},
		{"answer after the client's FIN", func(t *testing.T, c *net.TCPConn) {
			wantBytes(t, c, []byte("question"))
			_, _ = c.Write(big)
		}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte("question"))
			_ = c.CloseWrite()
			wantBytes(t, c, big)
		}, policy.ReasonClosed},
		{"request after the program's FIN", func(t *testing.T, c *net.TCPConn) {
			_ = c.CloseWrite()
			wantBytes(t, c, big)
		}, func(t *testing.T, c *net.TCPConn) {
			wantBytes(t, c, nil)
			_, _ = c.Write(big)
			_ = c.CloseWrite()
		}, policy.ReasonClosed},
		{"program first", func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte("220 ready"))
			wantBytes(t, c, []byte("quit"))
		}, func(t *testing.T, c *net.TCPConn) {
			hello := make([]byte, 9)
			if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "220 ready" {
				t.Errorf("got %q, %v", hello, err)
			}
			_, _ = c.Write([]byte("quit"))
			_ = c.CloseWrite()
			wantBytes(t, c, nil)
		}, policy.ReasonClosed},
		{"client resets", func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			wantReset(t, c)
		}, func(_ *testing.T, c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			socket.Reset(c)
		}, policy.ReasonReset},
		{"program resets", func(_ *testing.T, c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			socket.Reset(c)
		}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			wantReset(t, c)
		}, policy.ReasonReset},
		{"client resets after its FIN", func(t *testing.T, c *net.TCPConn) {
			wantBytes(t, c, nil)
			_, _ = c.Write([]byte("x"))
			wantBroken(t, c)
		}, func(_ *testing.T, c *net.TCPConn) {
			_ = c.CloseWrite()
			_, _ = io.ReadFull(c, make([]byte, 1))
			socket.Reset(c)
		}, policy.ReasonReset},
		{"program resets after its FIN", func(_ *testing.T, c *net.TCPConn) {
			_ = c.CloseWrite()
			_, _ = io.ReadFull(c, make([]byte, 1))
			socket.Reset(c)
		}, func(t *testing.T, c *net.TCPConn) {
			wantBytes(t, c, nil)
			_, _ = c.Write([]byte("x"))
			wantBroken(t, c)
		}, policy.ReasonReset},
	}
	for _, way := range []string{"lane", "local"} {
		for _, tc := range cases {
			t.Run(way+"/"+tc.name, func(t *testing.T) {
				done := make(chan struct{})
				program := func(c *net.TCPConn) {
					defer close(done)
					_ = c.SetDeadline(time.Now().Add(15 * time.Second))
					tc.program(t, c)
				}
				var a, b *host
				if way == "lane" {
					a, b = pair(t, program)
				} else {
					a = local(t, program)
				}
				tc.client(t, a.call())
				<-done
				out := a.lastFlow(1)
				if out.End != tc.end {
					t.Errorf("flow ended with %q, want %q", out.End, tc.end)
				}
				if b != nil {
					in := b.lastFlow(1)
					if in.End != tc.end || tc.end == policy.ReasonClosed && (in.Sent != out.Sent || in.Received != out.Received) {
						t.Errorf("flows differ: %+v and %+v", out, in)
					}
				}
			})
		}
	}
}

// TestDuplex: 200 connections at once, 1 MiB each way, compared by hash; with one event
// loop on each node, and with two.
func TestDuplex(t *testing.T) {
	for threads := 1; threads <= 2; threads++ {
		t.Run(fmt.Sprint(threads), func(t *testing.T) { duplex(t, threads) })
	}
}

func duplex(t *testing.T, threads int) {
	leaks(t)
	m := newMesh(t)
	m.threads = threads
	a, _ := m.pair(func(c *net.TCPConn) {
		in := sha256.New()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.CopyN(in, c, 1<<20) })
		out := random(1 << 20)
		_, _ = c.Write(out)
		wg.Wait()
		sum := sha256.Sum256(out)
		_, _ = c.Write(append(in.Sum(nil), sum[:]...))
	})
	var wg sync.WaitGroup
	for range 200 {
		c := a.call()
		wg.Go(func() { exchange(t, c) })
	}
	wg.Wait()
	eventually(t, "all flows to end", func() bool { return len(a.Flows()) == 0 })
	if n := len(a.Lanes()); n < threads || n > 4*threads {
		t.Errorf("%d lanes for one peer", n)
	}
}

// exchange sends and receives 1 MiB at the same time, and compares the hashes.
func exchange(t *testing.T, c *net.TCPConn) {
	out, in := random(1<<20), sha256.New()
	go func() { _, _ = c.Write(out) }()
	sums := make([]byte, 64)
	if _, err := io.CopyN(in, c, 1<<20); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, sums); err != nil {
		t.Error(err)
	}
	sum := sha256.Sum256(out)
	if !bytes.Equal(sums, append(sum[:], in.Sum(nil)...)) {
		t.Error("bytes differ")
	}
	_ = c.Close()
}

// TestStalled: a program that doesn't read delays no other connection, and the
// reset of its caller is noticed meanwhile.
func TestStalled(t *testing.T) {
	release, reset := make(chan struct{}), make(chan struct{})
	a, _ := pair(t, func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil || first[0] == 'e' {
			echo(c)
			return
		}
		<-release
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the stalled program read %v", err)
		}
		close(reset)
	})
	stalled := a.call()
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		_ = stalled.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
		for n, b := 0, random(1<<20); n < 1<<30; {
			m, err := stalled.Write(b)
			if n += m; err != nil {
				return
			}
		}
		t.Error("1 GiB went to a program that doesn't read")
	}()
	for range 50 {
		c := a.call()
		_, _ = c.Write([]byte("e0123456789"))
		_ = c.CloseWrite()
		wantBytes(t, c, []byte("0123456789"))
	}
	<-stuck
	socket.Reset(stalled)
	if f := a.lastFlow(51); f.End != policy.ReasonReset {
		t.Errorf("the stalled flow ended with %q", f.End)
	}
	close(release)
	<-reset
}

// TestResets: 300 resets leave nothing behind, and end no lane.
func TestResets(t *testing.T) {
	a, b := pair(t, echo)
	for range 300 {
		socket.Reset(a.speak())
	}
	eventually(t, "all flows to end", func() bool { return len(a.Flows())+len(b.Flows()) == 0 })
	a.lastFlow(300)
	streams := 0
	for _, l := range a.Lanes() {
		streams += l.Streams
	}
	if streams != 300 {
		t.Errorf("lanes that are still there carried %d of 300 streams: resets cost lanes", streams)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	_, _ = r.Read(b)
	return b
}

func wantBytes(t testing.TB, c *net.TCPConn, want []byte) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want %d and the end", len(got), err, len(want))
	}
}

// wantBroken writes until the kernel says that the other end is gone.
func wantBroken(t testing.TB, c *net.TCPConn) {
	t.Helper()
	eventually(t, "a reset", func() bool {
		_, err := c.Write([]byte("y"))
		return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	})
}
