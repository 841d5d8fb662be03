// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const tcpClose = 7 // TCP_CLOSE of the kernel's tcp_states.h

// resetConn closes a connection with RST; unsent bytes are lost.
func resetConn(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// prepareLane sets keep-alive, by which the kernel notices a dead peer while
// nothing is sent. For the time in which something is, TCP_USER_TIMEOUT would be
// simpler than silent, but it also ends a connection whose reader is only slow.
func prepareLane(conn *net.TCPConn) error {
	return conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3})
}

func tcpInfo(raw syscall.RawConn) (info *unix.TCPInfo, err error) {
	if e := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil {
		return nil, e
	}
	return info, err
}

// closedByPeer says whether the peer has reset a connection, or the kernel has
// given it up.
func closedByPeer(raw syscall.RawConn) bool {
	info, err := tcpInfo(raw)
	return err != nil || info.State == tcpClose
}

// silent says whether the peer has acknowledged nothing for silenceLimit although
// bytes were under way and its window had room for them. It doesn't ask the
// kernel about a lane that has sent nothing since everything was acknowledged.
func (l *lane) silent(now time.Time) bool {
	l.mu.Lock()
	wrote := l.wrote
	l.wrote = false
	l.mu.Unlock()
	if !wrote {
		return false
	}
	info, err := tcpInfo(l.raw)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote = l.wrote || info.Unacked > 0 || info.Notsent_bytes > 0
	switch {
	case info.Unacked == 0 || info.Snd_wnd == 0:
		l.waiting = time.Time{}
	case l.waiting.IsZero():
		l.waiting = now
	}
	return !l.waiting.IsZero() && now.Sub(l.waiting) >= silenceLimit &&
		time.Duration(info.Last_ack_recv)*time.Millisecond >= silenceLimit
}

// quiet says whether a connection is open and nothing waits to be read. An idle
// lane that isn't quiet must not carry a stream.
func quiet(raw syscall.RawConn) bool {
	var one [1]byte
	var err error
	if e := raw.Control(func(fd uintptr) {
		_, _, err = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); e != nil {
		return false
	}
	return err == unix.EAGAIN
}
