// SPDX-License-Identifier: Apache-2.0

// Package socket asks the kernel about TCP connections, and resets them. It
// must neither read from a connection nor change how it works.
package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const tcpClose = 7 // TCP_CLOSE of the kernel's tcp_states.h

// Reset closes a connection with RST; unsent bytes are lost.
func Reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// Info is TCP_INFO (tcp(7)).
func Info(raw syscall.RawConn) (info *unix.TCPInfo, err error) {
	if e := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil {
		return nil, e
	}
	return info, err
}

// Closed says whether the peer has reset a connection, or the kernel has given
// it up.
func Closed(raw syscall.RawConn) bool {
	info, err := Info(raw)
	return err != nil || info.State == tcpClose
}

// Quiet says whether a connection is open and nothing waits to be read.
func Quiet(raw syscall.RawConn) bool {
	var one [1]byte
	var err error
	if e := raw.Control(func(fd uintptr) {
		_, _, err = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); e != nil {
		return false
	}
	return err == unix.EAGAIN
}
