// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUrgent: a byte that was sent as urgent, as telnet and ftp send some, arrives in its
// place. A read stops there: what follows arrives without waiting for more.
func TestUrgent(t *testing.T) {
	for _, way := range []string{"lane", "local"} {
		t.Run(way, func(t *testing.T) {
			program := func(c *net.TCPConn) {
				got := make([]byte, len("abc!?defg"))
				n, _ := io.ReadFull(c, got)
				urgent(t, c, got[:n])
				_, _ = c.Write([]byte("h"))
			}
			var a *host
			if way == "lane" {
				a, _ = pair(t, program)
			} else {
				a = local(t, program)
			}
			for range 20 {
				c := a.call()
				_, _ = c.Write([]byte("abc"))
				urgent(t, c, []byte("!"))
				urgent(t, c, []byte("?"))
				_, _ = c.Write([]byte("defg"))
				wantBytes(t, c, []byte("abc!?defgh"))
			}
		})
	}
}

// urgent sends bytes, the last one as urgent.
func urgent(t *testing.T, c *net.TCPConn, b []byte) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), b, unix.MSG_OOB, nil) })
	}
	if err != nil {
		t.Error(err)
	}
}

// inline has a listener's connections keep urgent bytes in their place.
func inline(t testing.TB, ln *net.TCPListener) {
	raw, err := ln.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
}
