// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"net"
	"testing"
)

// TestDialledFrom: the record names the peer that the program saw, carried or
// on one node.
func TestDialledFrom(t *testing.T) {
	seen := make(chan string, 1)
	program := func(c *net.TCPConn) {
		seen <- c.RemoteAddr().String()
		echo(c)
	}
	check := func(t *testing.T, from, at *host) {
		ask(t, from)
		if f, peer := at.lastFlow(1), <-seen; f.DialledFrom.String() != peer {
			t.Errorf("dialled from %s, the program saw %s", f.DialledFrom, peer)
		}
	}
	t.Run("carried", func(t *testing.T) {
		a, b := pair(t, program)
		check(t, a, b)
		if f := a.lastFlow(1); f.DialledFrom.IsValid() {
			t.Errorf("the caller's node dialled no program: %s", f.DialledFrom)
		}
	})
	t.Run("local", func(t *testing.T) {
		a := local(t, program)
		check(t, a, a)
	})
}
