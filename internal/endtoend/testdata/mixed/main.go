// SPDX-License-Identifier: Apache-2.0

// mixed serve ADDR…, or mixed call PLAN. serve answers what the first byte of a
// connection asks for. call makes the connections of a plan, a list of calls in JSON,
// many at a time, and prints what it met and how many bytes it sent and received.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// call is a kind of connection, how often, and what became of it.
type call struct {
	Label, Kind, Addr string
	Count, Bytes      int // Bytes: that the other end is to send back

	Sent, Received int
	Outcomes       map[string]int
}

const (
	workers = 24
	limit   = 20 * time.Second
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		for _, addr := range os.Args[3:] {
			go serve(addr)
		}
		serve(os.Args[2])
	}
	var plan []*call
	if err := json.Unmarshal([]byte(os.Args[2]), &plan); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	carryOut(plan)
	if err := json.NewEncoder(os.Stdout).Encode(plan); err != nil {
		os.Exit(1)
	}
}

// carryOut makes the calls of all kinds in turn, so that they are mixed. Those that
// are held each have a worker.
func carryOut(plan []*call) {
	var mu sync.Mutex
	var work, held sync.WaitGroup
	jobs := make(chan *call)
	one := func(c *call) {
		sent, received, outcome := c.make(held.Done)
		mu.Lock()
		defer mu.Unlock()
		c.Sent, c.Received = c.Sent+sent, c.Received+received
		if c.Outcomes == nil {
			c.Outcomes = map[string]int{}
		}
		c.Outcomes[outcome]++
	}
	for range workers {
		work.Go(func() {
			for c := range jobs {
				one(c)
			}
		})
	}
	for left := true; left; {
		left = false
		for _, c := range plan {
			if c.Count == 0 {
				continue
			}
			c.Count--
			if left = true; c.Kind == "hold" {
				held.Add(1)
				work.Go(func() { one(c) })
			} else {
				jobs <- c
			}
		}
	}
	close(jobs)
	held.Wait()
	fmt.Println("all held connections are there")
	work.Wait()
}

// make makes one call; holding is called once a connection that is to be held has
// had its answer, or failed.
func (c *call) make(holding func()) (sent, received int, outcome string) {
	switch c.Kind {
	case "udp":
		return 0, 0, datagram(c.Addr)
	case "udp connected":
		return 0, 0, datagramOnConnected(c.Addr)
	case "bind":
		var l net.ListenConfig
		l.SetMultipathTCP(false) // else there are two attempts
		ln, err := l.Listen(context.Background(), "tcp", c.Addr)
		if err == nil {
			_ = ln.Close()
		}
		return 0, 0, said(err)
	}
	raw, err := net.DialTimeout("tcp", c.Addr, limit)
	if err != nil {
		if c.Kind == "hold" {
			holding()
		}
		return 0, 0, said(err)
	}
	conn := raw.(*net.TCPConn)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	t := &talk{conn: conn}
	switch c.Kind {
	case "echo":
		t.echo(c.Bytes)
	case "half":
		t.half(c.Bytes)
	case "client resets":
		t.write("r")
		t.read(1)
		_ = conn.SetLinger(0)
	case "server resets":
		t.write("s")
		t.read(1)
		t.write("x")
		t.rest()
	case "hold":
		t.write("w")
		t.read(1)
		holding()
		t.rest()
	default: // no byte
		_ = conn.CloseWrite()
		t.rest()
	}
	return t.sent, t.received, said(t.err)
}

// talk is a connection and what happened on it.
type talk struct {
	conn           *net.TCPConn
	sent, received int
	err            error
}

func (t *talk) write(text string) {
	if t.err == nil {
		var n int
		n, t.err = t.conn.Write([]byte(text))
		t.sent += n
	}
}

func (t *talk) read(bytes int) {
	if t.err == nil {
		var n int
		n, t.err = io.ReadFull(t.conn, make([]byte, bytes))
		t.received += n
	}
}

// rest reads to the end.
func (t *talk) rest() {
	if t.err == nil {
		var n int64
		n, t.err = io.Copy(io.Discard, struct{ io.Reader }{t.conn})
		t.received += int(n)
	}
}

// echo sends and receives at once.
func (t *talk) echo(bytes int) {
	t.write("e")
	done := make(chan int)
	go func() {
		n, _ := t.conn.Write(make([]byte, bytes))
		_ = t.conn.CloseWrite()
		done <- n
	}()
	t.rest()
	t.sent += <-done
}

// half ends its own direction before the other one begins.
func (t *talk) half(bytes int) {
	t.write("h")
	n, err := t.conn.Write(make([]byte, bytes))
	t.sent += n
	if t.err = errors.Join(err, t.conn.CloseWrite()); t.err == nil {
		t.rest()
	}
}

func datagram(addr string) string {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return said(err)
	}
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return said(err)
	}
	defer c.Close()
	_, err = c.WriteToUDP([]byte("x"), at)
	return said(err)
}

// datagramOnConnected learns of the refusal when it waits for an answer.
func datagramOnConnected(addr string) string {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return said(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err = c.Write([]byte("x")); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	return said(err)
}

func said(err error) string {
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNABORTED):
		return "reset"
	case errors.Is(err, syscall.EACCES):
		return "forbidden"
	}
	return err.Error()
}

func serve(addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go answer(c.(*net.TCPConn))
	}
}

func answer(c *net.TCPConn) {
	defer c.Close()
	what := make([]byte, 1)
	if _, err := io.ReadFull(c, what); err != nil {
		return // no byte
	}
	switch what[0] {
	case 'e':
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		_ = c.CloseWrite()
	case 'h':
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		_, _ = c.Write(make([]byte, n))
	case 's':
		_, _ = c.Write(what)
		_, _ = io.ReadFull(c, what)
		_ = c.SetLinger(0)
	default:
		_, _ = c.Write(what)
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	}
}
