// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// again is the pause before a connection that was closed is made again.
const again = 3 * time.Second

// flood holds count connections, evenly from the local addresses, until it is
// killed. Every other one is silent; the rest send the beginning of a ClientHello,
// a byte each half second. It prints how many were made each second.
func flood(addr string, count int64, locals []string) error {
	var made atomic.Int64
	for i := range count {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(locals[i%int64(len(locals))])}}
		go func() {
			<-time.After(again * time.Duration(i) / time.Duration(count)) // not all at once: the kernel would drop SYNs
			for {
				if c, err := d.Dial("tcp", addr); err == nil {
					made.Add(1)
					linger(c, i%2 == 0)
				}
				<-time.After(again)
			}
		}()
	}
	for range time.Tick(time.Second) {
		fmt.Println("made", made.Load())
	}
	return nil
}

// linger keeps a connection until its other end closes it.
func linger(c net.Conn, silent bool) {
	defer c.Close()
	hello := append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 500)...)
	for _, b := range hello {
		if !silent {
			_, _ = c.Write([]byte{b})
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !strings.Contains(err.Error(), "timeout") {
			return
		}
	}
}
