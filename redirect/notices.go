// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Multicast groups of rtnetlink (linux/rtnetlink.h) and nfnetlink (linux/netfilter/nfnetlink.h) whose changes can remove or
// replace a route, rule or chain of ours. Links and addresses are among them since the kernel sends no notice of the IPv4
// routes that it removes with them.
const (
	routeGroups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
		1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)
	chainGroups = 1 << (unix.NFNLGRP_NFTABLES - 1)
)

// noticeBuffer is more than the kernel puts in one datagram of several notices (NLMSG_GOODSIZE, at most 8 KiB). A single
// notice that is longer counts as one of ours.
const noticeBuffer = 16 << 10

// notices is a netlink socket that the kernel sends notices of changes to.
type notices struct {
	what string // for errors
	file *os.File
	conn syscall.RawConn
	ours func(syscall.NetlinkMessage) bool // whether a message can concern state of ours
	buf  []byte
}

// openNotices subscribes in the calling thread's network namespace.
func openNotices(what string, protocol int, groups uint32, ours func(syscall.NetlinkMessage) bool) (*notices, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", what, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", what, err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "netlink")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", what, err), file.Close())
	}
	return &notices{what: what, file: file, conn: conn, ours: ours, buf: make([]byte, noticeBuffer)}, nil
}

// drain reads all waiting notices without blocking. any: there was at least one; ours: one can concern state of ours, or
// the socket's buffer overflowed.
func (n *notices) drain(fd int) (any, ours bool) {
	for {
		size, _, err := unix.Recvfrom(fd, n.buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			any, ours = true, true
			continue
		case err != nil:
			return any, ours
		}
		any = true
		messages, err := syscall.ParseNetlinkMessage(n.buf[:size])
		ours = ours || err != nil || slices.ContainsFunc(messages, n.ours)
	}
}

// waiting says whether notices are waiting, and true on an error. It doesn't read them, so that Watch sees them too.
func (n *notices) waiting() (yes bool) {
	err := n.conn.Control(func(fd uintptr) {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = ready != 0 || err != nil
	})
	return yes || err != nil
}

// loIndex is the index of the loopback interface in every network namespace.
const loIndex = 1

// concernsRoutes says whether a notice is of a rule, of a route in a table that has routes of ours, of the loopback
// interface, by which they all lead, or of its addresses, which are their sources.
func concernsRoutes(m syscall.NetlinkMessage) bool {
	native := nl.NativeEndian()
	switch m.Header.Type {
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		table := tableOf(m.Data)
		return table == tableLocal || table == tproxyTable
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(m.Data) >= 8 && native.Uint32(m.Data[4:]) == loIndex // struct ifinfomsg, struct ifaddrmsg
	}
	return false
}

// tableOf reads the attribute RTA_TABLE behind struct rtmsg, rtnetlink(7).
func tableOf(message []byte) uint32 {
	attrs, err := nl.ParseRouteAttr(message[min(unix.SizeofRtMsg, len(message)):])
	if err != nil {
		return 0
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_TABLE && len(a.Value) == 4 {
			return nl.NativeEndian().Uint32(a.Value)
		}
	}
	return 0
}

// concernsChains says whether a notice is of a table that has chains of ours, or of a chain or rule in one. The first
// attribute is the table's name: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE or NFTA_RULE_TABLE, all number 1
// (linux/netfilter/nf_tables.h).
func concernsChains(m syscall.NetlinkMessage) bool {
	switch m.Header.Type &^ (unix.NFNL_SUBSYS_NFTABLES << 8) {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
	default:
		return false
	}
	const header, attrHeader = 4, 4 // struct nfgenmsg, struct nlattr
	if len(m.Data) < header+attrHeader {
		return false
	}
	size := int(nl.NativeEndian().Uint16(m.Data[header:]))
	if size < attrHeader || header+size > len(m.Data) {
		return false
	}
	name := strings.TrimRight(string(m.Data[header+attrHeader:header+size]), "\x00")
	return name == mangle || name == raw || name == filter
}
