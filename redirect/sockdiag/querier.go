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
	requestSize = 56 // struct inet_diag_req_v2
	messageSize = 72 // struct inet_diag_msg
	attrV6Only  = 11 // INET_DIAG_SKV6ONLY
	attrCgroup  = 21 // INET_DIAG_CGROUP_ID
	stateListen = 10 // TCP_LISTEN
	allStates   = 1<<32 - 1
	anyCookie   = 1<<64 - 1

	// netlinkBuffer is more than the kernel puts in one answer to a socket that hasn't asked for more (NLMSG_GOODSIZE,
	// at most 8 KiB).
	netlinkBuffer = 16 << 10
	// netlinkTimeout, in seconds, keeps a kernel that doesn't answer from holding a thread for ever.
	netlinkTimeout = 5
)

// request is struct inet_diag_req_v2. Zero addresses and ports match every socket.
type request struct {
	family        uint8
	udp           bool   // false: TCP
	states        uint32 // bit n: state n of net/tcp_states.h
	local, remote netip.AddrPort
	cookie        uint64
}

// Len and Serialize make request a part of a netlink request (nl.NetlinkRequestData).
func (request) Len() int { return requestSize }

func (r request) Serialize() []byte {
	b := make([]byte, requestSize)
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

// socket is what struct inet_diag_msg and its attributes say of one socket.
type socket struct {
	state         uint8
	local, remote netip.AddrPort
	cookie        uint64
	uid, inode    uint32
	cgroup        uint64
	v6only        bool
}

// querier is a sock_diag socket; it sees the network namespace in which it was opened. Its reads block the thread instead of
// using the runtime's poller, since the kernel has the answer ready when sendto returns: a question takes a quarter less
// time than with the netlink library's requests.
type querier struct {
	fd     int
	buffer []byte // for answers; made with the first question
}

func openQuerier() (*querier, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: netlinkTimeout}); err != nil {
		return nil, errors.Join(fmt.Errorf("set a sock_diag socket's timeout: %w", err), unix.Close(fd))
	}
	return &querier{fd: fd}, nil
}

// askOnce sends one request on a new socket.
func askOnce(kind, flags int, r request) (found []socket, err error) {
	q, err := openQuerier()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	return q.ask(kind, flags, r)
}

func (q *querier) close() error { return unix.Close(q.fd) }

// ask sends one request and reads the whole answer. netlink.ErrDumpInterrupted: the kernel's table changed meanwhile, and
// sockets may be missing.
func (q *querier) ask(kind, flags int, r request) ([]socket, error) {
	message := nl.NewNetlinkRequest(kind, flags)
	message.AddData(r)
	if err := unix.Sendto(q.fd, message.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var out []socket
	interrupted := false
	if q.buffer == nil {
		q.buffer = make([]byte, netlinkBuffer)
	}
	for {
		n, _, err := unix.Recvfrom(q.fd, q.buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(q.buffer[:n])
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

// collect adds the socket of one message to out, or reports that the message ends the answer.
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
	if len(b) < messageSize {
		return socket{}, fmt.Errorf("the kernel's answer about a socket has %d bytes, want at least %d", len(b), messageSize)
	}
	native := nl.NativeEndian()
	s := socket{
		state:  b[1],
		local:  parseAddr(b[0], b[8:24], b[4:6]),
		remote: parseAddr(b[0], b[24:40], b[6:8]),
		cookie: uint64(native.Uint32(b[44:])) | uint64(native.Uint32(b[48:]))<<32,
		uid:    native.Uint32(b[64:]),
		inode:  native.Uint32(b[68:]),
	}
	attrs, err := nl.ParseRouteAttr(b[messageSize:])
	if err != nil {
		return socket{}, fmt.Errorf("parse the kernel's answer about a socket: %w", err)
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == attrCgroup && len(a.Value) == 8:
			s.cgroup = native.Uint64(a.Value)
		case a.Attr.Type == attrV6Only && len(a.Value) == 1:
			s.v6only = a.Value[0] != 0
		}
	}
	return s, nil
}

func parseAddr(family uint8, addr, port []byte) netip.AddrPort {
	if family == unix.AF_INET {
		addr = addr[:4]
	}
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// dump repeats an interrupted dump up to four times; on a busy host each of them may be interrupted, and then the error is
// returned.
func dump(read func() ([]socket, error)) ([]socket, error) {
	for range 4 {
		if out, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return read()
}
