// SPDX-License-Identifier: Apache-2.0

package listen_test

import (
	"net"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect/listen"

	"golang.org/x/sys/unix"
)

// TestCapturedPair: the options of the listeners, where every server has Fast Open without asking for it.
func TestCapturedPair(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	testhost.Must(t, host.Sysctl("net/ipv4/tcp_fastopen", "1027"))
	var pair *listen.Pair
	testhost.Must(t, host.Do(func() (err error) { pair, err = listen.CapturedPair(t.Context(), true, nil); return err }))
	for ln, transparent := range map[*net.TCPListener][2]int{
		pair.TCP4: {unix.SOL_IP, unix.IP_TRANSPARENT},
		pair.TCP6: {unix.SOL_IPV6, unix.IPV6_TRANSPARENT},
	} {
		raw, err := ln.SyscallConn()
		testhost.Must(t, err)
		for option, want := range map[[2]int]int{
			{unix.SOL_SOCKET, unix.SO_PROTOCOL}:       unix.IPPROTO_TCP,
			{unix.IPPROTO_TCP, unix.TCP_FASTOPEN}:     0,
			{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}: 0,
			transparent: 1,
		} {
			var got int
			testhost.Must(t, raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), option[0], option[1]) }))
			if err != nil || got != want {
				t.Errorf("%s: option %d of level %d is %d, %v; want %d", ln.Addr(), option[1], option[0], got, err, want)
			}
		}
		if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("listens on %s", ln.Addr())
		}
	}
	testhost.Must(t, pair.Close())
}
