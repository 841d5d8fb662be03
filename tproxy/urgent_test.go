// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUrgent: a read stops at a byte that was sent as urgent, as telnet and ftp send
// some. What follows it arrives without waiting for more.
func TestUrgent(t *testing.T) {
	for _, way := range []string{"lane", "local"} {
		t.Run(way, func(t *testing.T) {
			program := func(c *net.TCPConn) {
				got := make([]byte, 8)
				n, _ := io.ReadFull(c, got[:7]) // the urgent byte itself isn't part of the stream
				_, _ = c.Write(got[:n])
			}
			var a *host
			if way == "lane" {
				a, _ = pair(t, program)
			} else {
				a = local(t, program)
			}
			for range 20 {
				c := a.call()
				raw, err := c.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				_, _ = c.Write([]byte("abc"))
				if err := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }); err != nil {
					t.Fatal(err)
				}
				_, _ = c.Write([]byte("defg"))
				wantBytes(t, c, []byte("abcdefg"))
			}
		})
	}
}
