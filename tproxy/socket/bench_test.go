// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net"
	"testing"

	"tacit/internal/testhost"
)

// BenchmarkAddresses is what both addresses of a connection cost.
func BenchmarkAddresses(b *testing.B) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	testhost.Must(b, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	testhost.Must(b, err)
	defer client.Close()
	raw, err := client.(*net.TCPConn).SyscallConn()
	testhost.Must(b, err)
	b.ReportAllocs()
	testhost.Must(b, raw.Control(func(fd uintptr) {
		for b.Loop() {
			_, _ = Local(int(fd))
			_, _ = Remote(int(fd))
		}
	}))
}
