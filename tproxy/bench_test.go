// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"net"
	"testing"
)

func direct(b *testing.B, program func(*net.TCPConn)) func() *net.TCPConn {
	addr := serve(b, program)
	return func() *net.TCPConn { return connect(b, addr) }
}

func connect(b *testing.B, addr string) *net.TCPConn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func ways(b *testing.B, program func(*net.TCPConn)) map[string]func() *net.TCPConn {
	a, _ := pair(b, program)
	l := local(b, program)
	return map[string]func() *net.TCPConn{
		"lane":   func() *net.TCPConn { return connect(b, a.front) },
		"local":  func() *net.TCPConn { return connect(b, l.front) },
		"direct": direct(b, program),
	}
}

// BenchmarkConnections: connect, one byte there and back, close; 16 callers.
func BenchmarkConnections(b *testing.B) {
	for name, dial := range ways(b, echo) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				one := make([]byte, 1)
				for pb.Next() {
					c := dial()
					_, _ = c.Write(one)
					if _, err := io.ReadFull(c, one); err != nil {
						b.Error(err)
					}
					_ = c.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
		})
	}
}

// BenchmarkRequests: one byte there and back on a live connection.
func BenchmarkRequests(b *testing.B) {
	for name, dial := range ways(b, echo) {
		b.Run(name, func(b *testing.B) {
			c := dial()
			one := make([]byte, 1)
			for b.Loop() {
				_, _ = c.Write(one)
				if _, err := io.ReadFull(c, one); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
		})
	}
}

// BenchmarkBulk: one connection, one direction, both nodes in this process.
func BenchmarkBulk(b *testing.B) {
	sink := func(c *net.TCPConn) {
		buf := make([]byte, 256<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
	for name, dial := range ways(b, sink) {
		b.Run(name, func(b *testing.B) {
			c := dial()
			buf := make([]byte, 1<<20)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		})
	}
}
