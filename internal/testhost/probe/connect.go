// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// target is what an ADDR means for socket(2) and connect(2): a mapped address
// stays an IPv6 one.
func target(text string) (family int, sa unix.Sockaddr, err error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return 0, nil, err
	}
	if at.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}, nil
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}, nil
}

// connect prints "ok local=… peer=…", or fails with the errno's name.
func connect(how, addr string) error {
	fd, err := dial(how, addr)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	local, _ := unix.Getsockname(fd)
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return named("getpeername", err)
	}
	fmt.Printf("ok local=%s peer=%s\n", text(local), text(peer))
	return nil
}

func dial(how, addr string) (int, error) {
	family, sa, err := target(addr)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, named("socket", err)
	}
	switch how {
	case "nonblock":
		err = connectLater(fd, sa)
	case "fastopen":
		err = unix.Sendto(fd, []byte("hello"), unix.MSG_FASTOPEN, sa)
	case "plain":
		err = unix.Connect(fd, sa)
	default:
		err = errors.New(usage)
	}
	if err != nil {
		unix.Close(fd)
		return -1, named("connect", err)
	}
	return fd, nil
}

// connectLater connects as an event loop does: EINPROGRESS, poll, SO_ERROR.
func connectLater(fd int, sa unix.Sockaddr) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	err := unix.Connect(fd, sa)
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 5000); n == 0 || err != nil {
		return errors.Join(err, unix.ETIMEDOUT)
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// named says which call failed and the errno by name: "connect: ECONNREFUSED".
func named(call string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("%s: %s", call, unix.ErrnoName(errno))
	}
	return fmt.Errorf("%s: %w", call, err)
}

func text(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	}
	return fmt.Sprint(sa)
}

// conn is a plain connection as a net.Conn.
func conn(addr string) (*net.TCPConn, error) {
	fd, err := dial("plain", addr)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), addr)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func ask(addr, question string) error {
	c, err := conn(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, question); err != nil {
		return named("write", err)
	}
	if err := c.CloseWrite(); err != nil {
		return named("shutdown", err)
	}
	if _, err := io.Copy(os.Stdout, c); err != nil {
		return named("read", err)
	}
	return nil
}

func sendUDP(addr, text string) error {
	family, sa, err := target(addr)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return named("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte(text), 0, sa); err != nil {
		return named("sendto", err)
	}
	fmt.Println("ok")
	return nil
}
