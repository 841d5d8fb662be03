// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve runs a program and returns its address.
func serve(t testing.TB, program func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				program(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// call connects like a captured program.
func (h *host) call() *net.TCPConn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.front)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c.(*net.TCPConn)
}

// wantRefused connects, writes, and expects RST, which may come so early that
// connect reports it.
func (h *host) wantRefused(first []byte) {
	h.t.Helper()
	c, err := net.Dial("tcp", h.front)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	if _, err := c.Write(first); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return // the kernel tells of a reset once; the next read would see an end of file
	}
	wantReset(h.t, c.(*net.TCPConn))
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(8 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		<-tick.C
	}
}

// leaks fails a test that leaves goroutines or descriptors behind. Call it first.
func leaks(t testing.TB) {
	t.Helper()
	if _, ok := t.(*testing.B); ok {
		return // several worlds live side by side there
	}
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = ln.Close() // the runtime's own descriptors exist from here on
	}
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		eventually(t, "goroutines and descriptors to go back", func() bool {
			return runtime.NumGoroutine() <= goroutines && descriptors(t) <= fds
		})
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// wantReset expects RST, and no byte before it.
func wantReset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %d bytes and then %v, want a reset", n, err)
	}
}

// echo doesn't splice: Go keeps the pipes, which look like leaked descriptors.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}
