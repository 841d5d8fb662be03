// SPDX-License-Identifier: Apache-2.0

package listen_test

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/redirect/listen"
	"tacit/tproxy/accept"
)

// TestInherited: what an accepted descriptor has without a system call of its own.
func TestInherited(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	open := map[string]func() (*net.TCPListener, error){
		"captured": func() (*net.TCPListener, error) { return listen.Captured(t.Context(), false) },
		"carried": func() (*net.TCPListener, error) {
			return listen.Carried(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
		},
	}
	for name, open := range open {
		var fd int
		testhost.Must(t, host.Do(func() error {
			tcp, err := open()
			testhost.Must(t, err)
			ln, err := accept.NewTCP(tcp)
			testhost.Must(t, err)
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			testhost.Must(t, err)
			defer client.Close()
			return ln.AcceptAll(func(accepted int) { fd = accepted })
		}))
		remote := 0
		if name == "carried" {
			remote = 1
		}
		for option, want := range map[[2]int]int{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY}:  1,
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:  remote,
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}: 7200 - remote*(7200-15), // the sysctl's default
			{unix.SOL_SOCKET, unix.SO_LINGER}:     1,                       // struct linger begins with l_onoff
			{unix.SOL_SOCKET, unix.SO_OOBINLINE}:  1,
		} {
			if got, err := unix.GetsockoptInt(fd, option[0], option[1]); err != nil || got != want {
				t.Errorf("%s: option %d of level %d is %d, %v; want %d", name, option[1], option[0], got, err, want)
			}
		}
		testhost.Must(t, unix.Close(fd))
	}
}
