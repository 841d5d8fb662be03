// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/policy"
	"tacit/tproxy/accept"
	"tacit/tproxy/socket"
)

// door is an Entry that counts who goes in and out.
type door struct {
	*host
	let, left atomic.Int32
}

func (d *door) Identify(fd int) (Origin, error) {
	o, err := d.host.Identify(fd)
	if err == nil {
		d.let.Add(1)
	}
	return o, err
}

func (d *door) Holds() bool { return true }
func (d *door) Left(Origin) { d.left.Add(1) }

// moody is a program that does one of several things with each connection.
func moody(c *net.TCPConn) {
	_ = c.SetDeadline(time.Now().Add(4 * time.Second))
	switch rand.IntN(5) {
	case 0:
		socket.Reset(c)
	case 1:
		_, _ = io.ReadFull(c, make([]byte, 3))
		socket.Reset(c)
	case 2:
		_, _ = io.Copy(io.Discard, c)
	case 3:
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	default:
		echo(c)
	}
}

// caller makes connections in many moods until stop is closed.
func caller(addr string, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		c := conn.(*net.TCPConn)
		_ = c.SetDeadline(time.Now().Add(time.Duration(rand.IntN(100)) * time.Millisecond))
		_, _ = c.Write(make([]byte, rand.IntN(3000)))
		switch rand.IntN(3) {
		case 0:
			socket.Reset(c)
			continue
		case 1:
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
}

// upset changes the policy and ends lanes until stop is closed.
func upset(a, b, c *host, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.IntN(30)) * time.Millisecond):
		}
		switch h := []*host{a, b, c}[rand.IntN(3)]; rand.IntN(4) {
		case 0:
			h.table.Store(deny)
			h.Sweep()
			h.table.Store(allow)
		case 1:
			h.CloseLanes([]*host{a, b}[rand.IntN(2)].cfg.Node.Name())
		case 2:
			for _, s := range h.all() {
				s.stop(policy.ReasonChanged)
			}
		default:
			h.Flows()
		}
	}
}

// TestPhases: a proxy that is closed while its streams are in every phase, and are cut
// meanwhile, leaves nothing behind: each connection that came in has left, and each
// instance that was picked was reported, once.
func TestPhases(t *testing.T) {
	for _, first := range []string{"program", "no program", "local", "silent"} {
		t.Run(first, func(t *testing.T) { phases(t, first) })
	}
}

func phases(t *testing.T, first string) {
	a, b, c := trio(t, "", moody)
	silent := mute(t)
	switch first {
	case "no program":
		b.with(func() { b.programs["db"] = "127.0.0.1:1" })
	case "silent":
		b.with(func() { b.programs["db"] = silent })
	case "local":
		a.with(func() { a.target = Target{Node: "a", Port: 5432, Instance: "db-0", Local: true} })
	}
	ln := a.listen("127.0.0.1:0")
	front, err := accept.NewTCP(ln)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{host: a}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.served.Go(func() { _ = a.ServeEntry(ctx, front, d) })
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 20 {
		callers.Go(func() { caller(ln.Addr().String(), stop) })
	}
	callers.Go(func() { upset(a, b, c, stop) })
	eventually(t, "200 connections", func() bool { return d.let.Load() > 200 })
	for _, h := range []*host{b, a, c} {
		began := time.Now()
		h.shut()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s was closed in %v", h.name, took)
		}
	}
	close(stop)
	callers.Wait()
	d.balance()
}

// balance compares what began with what has ended.
func (d *door) balance() {
	d.with(func() {
		ended := 0
		for _, r := range d.results {
			if r != Answered {
				ended++
			}
		}
		if d.let.Load() != d.left.Load() || int(d.let.Load()) != len(d.ended) {
			d.t.Errorf("%d came in, %d left, %d flow records", d.let.Load(), d.left.Load(), len(d.ended))
		}
		if d.picks != ended {
			d.t.Errorf("%d instances were picked, %d ended or failed", d.picks, ended)
		}
	})
}
