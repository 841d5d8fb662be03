// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// oobSize holds one original destination (a struct sockaddr_in6) and room to spare.
const oobSize = 64

// maxUDP is the longest payload of a UDP datagram (RFC 768: 16 bits of length, header included).
const maxUDP = 1<<16 - 1 - udpHeader

const udpHeader = 8

// TransparentUDP receives datagrams sent to other hosts, and answers with their addresses as the source. One goroutine may
// read while any number write.
type TransparentUDP struct {
	conn *net.UDPConn
	raw  *net.IPConn
	v6   bool
}

// NewTransparentUDP opens a socket on 127.0.0.1, or on ::1 with v6, on a free port.
//
// A raw socket sends the answers, so that their source can be set. A UDP socket bound to the original destination would do
// the same with two faults: a DNS server that binds all addresses of this host couldn't bind port 53, and on an address of
// this host the socket would receive that server's queries. Needs CAP_NET_ADMIN and CAP_NET_RAW.
func NewTransparentUDP(ctx context.Context, v6 bool) (*TransparentUDP, error) {
	config := net.ListenConfig{Control: control(udpOptions(v6))}
	local := netip.AddrPortFrom(loopback(v6), 0)
	conn, err := config.ListenPacket(ctx, "udp", local.String())
	if err != nil {
		return nil, fmt.Errorf("listen transparently for udp on %s (needs CAP_NET_ADMIN): %w", local.Addr(), err)
	}
	raw, err := openReply(ctx, v6)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &TransparentUDP{conn: conn.(*net.UDPConn), raw: raw, v6: v6}, nil
}

// openReply opens the raw socket for answers. It is bound to an address to which nobody can send: otherwise the kernel would
// give it a copy of every datagram that reaches the host.
func openReply(ctx context.Context, v6 bool) (*net.IPConn, error) {
	network, dummy := "ip4:udp", "192.0.0.8" // RFC 7600: never a destination
	if v6 {
		network, dummy = "ip6:udp", "100::" // RFC 6666: discard only
	}
	config := net.ListenConfig{Control: control([]option{transparent(v6)})}
	conn, err := config.ListenPacket(ctx, network, dummy)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket for answers (needs CAP_NET_RAW): %w", err)
	}
	return conn.(*net.IPConn), nil
}

func udpOptions(v6 bool) []option {
	orig := option{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1}
	if v6 {
		orig = option{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1}
	}
	return []option{transparent(v6), orig}
}

// ReadFrom reads one datagram into b: from is its source, orig its original destination. A datagram longer than b is cut.
func (t *TransparentUDP) ReadFrom(b []byte) (n int, from, orig netip.AddrPort, err error) {
	oob := make([]byte, oobSize)
	n, oobn, _, from, err := t.conn.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return 0, netip.AddrPort{}, netip.AddrPort{}, err
	}
	orig, err = parseOrig(oob[:oobn])
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), orig, err
}

func parseOrig(oob []byte) (netip.AddrPort, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("parse a datagram's control messages: %w", err)
	}
	for i := range messages {
		sa, err := unix.ParseOrigDstAddr(&messages[i])
		if err != nil {
			continue
		}
		switch a := sa.(type) {
		case *unix.SockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
		case *unix.SockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
		}
	}
	return netip.AddrPort{}, errors.New("the kernel gave no original destination for a datagram")
}

// WriteFrom sends b to to, with orig as the source. The kernel fragments what is longer than the MTU.
func (t *TransparentUDP) WriteFrom(b []byte, orig, to netip.AddrPort) error {
	if orig.Addr().Is6() != t.v6 || to.Addr().Is6() != t.v6 || len(b) > maxUDP {
		return fmt.Errorf("send %d bytes of udp from %s to %s: not possible on this socket", len(b), orig, to)
	}
	datagram := datagram(b, orig, to)
	_, _, err := t.raw.WriteMsgIP(datagram, packetInfo(orig.Addr()), &net.IPAddr{IP: to.Addr().AsSlice(), Zone: to.Addr().Zone()})
	if err != nil {
		return fmt.Errorf("send udp from %s to %s: %w", orig, to, err)
	}
	return nil
}

// SyscallConn gives access to the receiving socket's descriptor.
func (t *TransparentUDP) SyscallConn() (syscall.RawConn, error) { return t.conn.SyscallConn() }

// LocalAddr is where the socket listens.
func (t *TransparentUDP) LocalAddr() netip.AddrPort {
	return t.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close ends reads with net.ErrClosed.
func (t *TransparentUDP) Close() error { return errors.Join(t.conn.Close(), t.raw.Close()) }

// packetInfo is the control message that gives a packet its source address.
func packetInfo(src netip.Addr) []byte {
	if src.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: src.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: src.As16()})
}

// datagram puts a UDP header before the payload (RFC 768).
func datagram(payload []byte, from, to netip.AddrPort) []byte {
	d := make([]byte, udpHeader, udpHeader+len(payload))
	binary.BigEndian.PutUint16(d[0:], from.Port())
	binary.BigEndian.PutUint16(d[2:], to.Port())
	binary.BigEndian.PutUint16(d[4:], uint16(udpHeader+len(payload)))
	d = append(d, payload...)
	binary.BigEndian.PutUint16(d[6:], checksum(d, from.Addr(), to.Addr()))
	return d
}

// checksum is the Internet checksum (RFC 1071) of a UDP datagram and its pseudo header, which for both families sums to
// the addresses, the protocol and the length (RFC 768, RFC 8200 section 8.1). 0 is sent as all ones: 0 means "none".
func checksum(datagram []byte, from, to netip.Addr) uint16 {
	sum := uint32(unix.IPPROTO_UDP) + uint32(len(datagram))
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), datagram} {
		for ; len(part) >= 2; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if out := ^uint16(sum); out != 0 {
		return out
	}
	return 0xffff
}
