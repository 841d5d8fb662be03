// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
)

// descriptor is that of a connection; it lives as long as the connection.
func descriptor(t *testing.T, c syscall.Conn) (out int) {
	t.Helper()
	raw, err := c.SyscallConn()
	testhost.Must(t, err)
	testhost.Must(t, raw.Control(func(fd uintptr) { out = int(fd) }))
	return out
}

// TestAddresses of both families, mapped ones as IPv4, and of a connection that its
// peer has reset.
func TestAddresses(t *testing.T) {
	for listen, dial := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "[::]:0": "127.0.0.1"} {
		ln, err := net.Listen("tcp", listen)
		testhost.Must(t, err)
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		want := netip.AddrPortFrom(netip.MustParseAddr(dial), port)
		client, err := net.Dial("tcp", want.String())
		testhost.Must(t, err)
		accepted, err := ln.Accept()
		testhost.Must(t, err)
		fd := descriptor(t, accepted.(*net.TCPConn))
		check := func(when string) {
			t.Helper()
			local, err := Local(fd)
			remote, err2 := Remote(fd)
			if err := errors.Join(err, err2); err != nil || local != want || remote.String() != client.LocalAddr().String() {
				t.Errorf("%s, %s: from %s to %s, %v; want from %s to %s", listen, when, remote, local, err, client.LocalAddr(), want)
			}
		}
		check("open")
		if n := testing.AllocsPerRun(100, func() { _, _ = Local(fd); _, _ = Remote(fd) }); n > 0 {
			t.Errorf("%s: %.0f allocations", listen, n)
		}
		Reset(client.(*net.TCPConn))
		testhost.Eventually(t, 5*time.Second, "the reset to arrive", func() error {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err == nil && info.State != tcpClose {
				return errors.New("still open")
			}
			return err
		})
		check("reset")
		_, _ = accepted.Close(), ln.Close()
	}
	if _, err := Local(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	if _, err := Remote(-1); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
}

const tcpClose = 7 // TCP_CLOSE of the kernel's tcp_states.h

// begun is a socket on which connect() was called.
func begun(t *testing.T, port int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	testhost.Must(t, err)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v, want %v", err, unix.EINPROGRESS)
	}
	return fd
}

// TestAwait: until the connection is there, is refused, or ctx ends; the descriptor
// is closed where there is none.
func TestAwait(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	testhost.Must(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	fd := begun(t, port)
	f, err := Await(t.Context(), fd)
	testhost.Must(t, err)
	if peer, err := unix.Getpeername(fd); err != nil || peer.(*unix.SockaddrInet4).Port != port {
		t.Errorf("connected to %+v, %v", peer, err)
	}
	testhost.Must(t, f.Close())
	testhost.Must(t, ln.Close())
	fd = begun(t, port)
	if _, err := Await(t.Context(), fd); !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "connect: ") {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("cut")
	cancel(why)
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0) // never connected
	testhost.Must(t, err)
	if _, err := Await(ctx, fd); !errors.Is(err, why) {
		t.Errorf("cut: %v", err)
	}
	if _, err := Local(fd); !errors.Is(err, syscall.EBADF) {
		t.Errorf("the descriptor is open: %v", err)
	}
}
