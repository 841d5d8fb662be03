// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socket is a blocking socket without Go's poller, as C programs use it.
type socket struct {
	fd int
	to netip.AddrPort
	at unix.Sockaddr
}

func (t Task) open(kind int) (*socket, error) {
	addr := t.To.Addr().Unmap()
	s := &socket{to: netip.AddrPortFrom(addr, t.To.Port())}
	family := unix.AF_INET6
	if addr.Is4() && !t.Mapped {
		family = unix.AF_INET
		s.at = &unix.SockaddrInet4{Port: int(t.To.Port()), Addr: addr.As4()}
	} else {
		s.at = &unix.SockaddrInet6{Port: int(t.To.Port()), Addr: addr.As16()}
	}
	var err error
	if s.fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("the probe can't open a socket: %w", err)
	}
	limit := unix.NsecToTimeval(Patience.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("the probe can't limit a socket's time: %w", err)
	}
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// errSilence replaces the kernel's errors for a timeout.
var errSilence = errors.New("no answer within " + Patience.String())

func silence(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINPROGRESS) {
		return errSilence
	}
	return err
}

// again repeats a call that a signal has interrupted; Go's runtime sends signals.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return silence(err)
		}
	}
}

func (s *socket) connect() error {
	err := unix.Connect(s.fd, s.at)
	if errors.Is(err, unix.EINTR) { // the kernel continues: wait for the result
		err = again(func() error {
			fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(fds, int(Patience.Milliseconds())); n == 0 && err == nil {
				return unix.EAGAIN
			} else if err != nil {
				return err
			}
			code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		})
	}
	return silence(err)
}

func (s *socket) sendTo(b []byte) error {
	return again(func() error { return unix.Sendto(s.fd, b, 0, s.at) })
}

func (s *socket) send(b []byte) error {
	return again(func() error {
		_, err := unix.Write(s.fd, b)
		return err
	})
}

// receive reads a datagram and its source address.
func (s *socket) receive(b []byte) (n int, from netip.AddrPort, err error) {
	err = again(func() error {
		var at unix.Sockaddr
		n, at, err = unix.Recvfrom(s.fd, b, 0)
		from = addrPort(at)
		return err
	})
	return max(0, n), from, err // -1 with an error
}

// readAll reads to the end, at most limit bytes.
func (s *socket) readAll(limit int) ([]byte, error) {
	buf := make([]byte, limit)
	for have := 0; ; {
		n := 0
		err := again(func() (err error) {
			n, err = unix.Read(s.fd, buf[have:])
			return err
		})
		if have += max(0, n); err != nil || n == 0 || have == limit {
			return buf[:have], err
		}
	}
}

// expectPeer checks that getpeername returns the dialled address.
func (s *socket) expectPeer() error {
	at, err := unix.Getpeername(s.fd)
	if err != nil {
		return fmt.Errorf("getpeername: %w", err)
	}
	if got := addrPort(at); got != s.to {
		return fmt.Errorf("dialled %s, and getpeername says %s", s.to.Addr(), got.Addr())
	}
	return nil
}

func addrPort(at unix.Sockaddr) netip.AddrPort {
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
