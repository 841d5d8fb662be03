// SPDX-License-Identifier: Apache-2.0

// Package sockdiag asks the kernel about the TCP and UDP sockets of a network
// namespace, by netlink's sock_diag (sock_diag(7)): who listens, who is
// connected, and in which cgroup a socket was created. It must not change
// anything, and it must not know what the answers are used for.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sizes and numbers of sock_diag (linux/inet_diag.h).
const (
	diagRequestSize = 56 // struct inet_diag_req_v2
	diagMessageSize = 72 // struct inet_diag_msg
	diagAttrV6Only  = 11 // INET_DIAG_SKV6ONLY
	diagAttrCgroup  = 21 // INET_DIAG_CGROUP_ID
	stateListen     = 10 // TCP_LISTEN
	allStates       = 1<<32 - 1
	anyCookie       = 1<<64 - 1

	// netlinkBuffer is more than the kernel puts in one answer to a socket that hasn't asked for more (NLMSG_GOODSIZE,
	// at most 8 KiB).
	netlinkBuffer = 16 << 10
	// netlinkPatience in seconds is far beyond any answer's time; it keeps a broken kernel from holding a thread.
	netlinkPatience = 5
)

// diagRequest is struct inet_diag_req_v2. A zero address is sent as zeros.
type diagRequest struct {
	family        uint8
	udp           bool // else TCP
	states        uint32
	local, remote netip.AddrPort
	cookie        uint64
}

// Len and Serialize are what a netlink request asks of its parts.
func (diagRequest) Len() int { return diagRequestSize }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = r.family, unix.IPPROTO_TCP
	if r.udp {
		b[1] = unix.IPPROTO_UDP
	}
	native := nl.NativeEndian()
	native.PutUint32(b[4:], r.states)
	binary.BigEndian.PutUint16(b[8:], r.local.Port())
	binary.BigEndian.PutUint16(b[10:], r.remote.Port())
	copy(b[12:28], r.local.Addr().AsSlice())
	copy(b[28:44], r.remote.Addr().AsSlice())
	native.PutUint32(b[48:], uint32(r.cookie))
	native.PutUint32(b[52:], uint32(r.cookie>>32))
	return b
}

// socket is what the kernel says of one socket.
type socket struct {
	state         uint8
	local, remote netip.AddrPort
	cookie        uint64
	uid, inode    uint32
	cgroup        uint64
	v6only        bool
}

// sockDiag is a netlink socket for questions about the namespace in which it was opened. It is read without the run-time's
// poller, since the kernel has the answer ready when the question is sent: a question takes a quarter less time than by the
// netlink library's requests.
type sockDiag struct{ fd int }

func openSockDiag() (*sockDiag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: netlinkPatience}); err != nil {
		return nil, errors.Join(fmt.Errorf("set a sock_diag socket's timeout: %w", err), unix.Close(fd))
	}
	return &sockDiag{fd}, nil
}

// diag asks one question on a socket of its own.
func diag(message, flags int, r diagRequest) (found []socket, err error) {
	d, err := openSockDiag()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.ask(message, flags, r)
}

// Close closes the socket.
func (d *sockDiag) Close() error { return unix.Close(d.fd) }

// ask sends one request and reads the whole answer.
func (d *sockDiag) ask(message, flags int, r diagRequest) ([]socket, error) {
	request := nl.NewNetlinkRequest(message, flags)
	request.AddData(r)
	if err := unix.Sendto(d.fd, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var out []socket
	interrupted := false
	buffer := make([]byte, netlinkBuffer)
	for {
		n, _, err := unix.Recvfrom(d.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			done, err := collect(&out, m)
			if err == nil && done && interrupted {
				err = netlink.ErrDumpInterrupted
			}
			if err != nil || done {
				return out, err
			}
		}
	}
}

// collect adds what one message says, and reports whether it ends the answer.
func collect(out *[]socket, m syscall.NetlinkMessage) (done bool, err error) {
	switch m.Header.Type {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		if len(m.Data) >= 4 {
			if code := int32(nl.NativeEndian().Uint32(m.Data)); code < 0 {
				err = unix.Errno(-code)
			}
		}
		return true, err
	}
	s, err := parseSocket(m.Data)
	*out = append(*out, s)
	return m.Header.Flags&unix.NLM_F_MULTI == 0, err
}

func parseSocket(b []byte) (socket, error) {
	if len(b) < diagMessageSize {
		return socket{}, fmt.Errorf("the kernel's answer has %d bytes instead of %d", len(b), diagMessageSize)
	}
	native := nl.NativeEndian()
	s := socket{
		state:  b[1],
		local:  diagAddr(b[0], b[8:24], b[4:6]),
		remote: diagAddr(b[0], b[24:40], b[6:8]),
		cookie: uint64(native.Uint32(b[44:])) | uint64(native.Uint32(b[48:]))<<32,
		uid:    native.Uint32(b[64:]),
		inode:  native.Uint32(b[68:]),
	}
	attrs, err := nl.ParseRouteAttr(b[diagMessageSize:])
	if err != nil {
		return socket{}, fmt.Errorf("parse the kernel's answer about a socket: %w", err)
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == diagAttrCgroup && len(a.Value) == 8:
			s.cgroup = native.Uint64(a.Value)
		case a.Attr.Type == diagAttrV6Only && len(a.Value) == 1:
			s.v6only = a.Value[0] != 0
		}
	}
	return s, nil
}

func diagAddr(family uint8, addr, port []byte) netip.AddrPort {
	if family == unix.AF_INET {
		addr = addr[:4]
	}
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// dump repeats a dump that changes of the kernel's table have interrupted, a
// few times: a busy host may interrupt each of them.
func dump(read func() ([]socket, error)) ([]socket, error) {
	for range 4 {
		if out, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return read()
}
