// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperVar turns the test binary into a client or server that runs in the cgroup
// and network namespace it was started in.
const helperVar = "TACIT_BPF_HELPER"

func TestMain(m *testing.M) {
	if words := os.Getenv(helperVar); words != "" {
		if err := help(strings.Fields(words)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// help runs one verb of the helper, which prints the result of a system call.
func help(words []string) error {
	switch words[0] {
	case "connect", "mptcp", "v6only", "again", "from":
		return helpConnect(words[0], words[1:], false)
	case "late": // connect, and say something when the standard input ends
		return helpLate(words[1])
	case "hold": // the same, and keep the connection open until it ends
		return helpConnect(words[1], words[2:], true)
	case "many": // N connections, each reset immediately
		return helpMany(words[1], words[2])
	case "udp":
		return helpUDP(words[1], words[2])
	case "names":
		return helpNames(words[1])
	case "as": // run the rest as another user
		uid, err := strconv.Atoi(words[1])
		if err == nil {
			err = syscall.Setuid(uid)
		}
		return errors.Join(err, help(words[2:]))
	case "unix":
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: words[1]})
		}
		return err
	case "ask":
		err := helpAsk(words[1], words[2])
		if err == nil {
			fmt.Println("sent")
		}
		return err
	case "prompt":
		return helpPrompt(words[1])
	case "serve", "serve-mptcp":
		return helpServe("tcp", words[1], words[0] == "serve-mptcp")
	case "serve-shared", "serve-lo": // with SO_REUSEPORT, and only by loopback's device
		return helpServeShared(words[1], words[0] == "serve-lo")
	case "serve-4", "serve-6": // for one address family only
		return helpServe("tcp"+strings.TrimPrefix(words[0], "serve-"), words[1], false)
	case "inherit": // connect with the socket passed as descriptor 3
		return connectFD(3, words[1])
	}
	return fmt.Errorf("unknown verb %q", words[0])
}

// helpConnect connects to the targets in turn. The first target of "from" is the
// address to which the socket is bound.
func helpConnect(how string, targets []string, hold bool) error {
	fd, err := helpSocket(how, targets[0])
	if err != nil {
		return err
	}
	if how == "from" {
		targets = targets[1:]
	}
	for _, target := range targets {
		err = connectFD(fd, target)
		if how == "again" && err != nil {
			fmt.Println(err)
		}
	}
	if !hold || err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 1)) // until the connection ends
	if err == nil {
		err = io.EOF
	}
	return err
}

func helpLate(target string) error {
	fd, err := helpSocket("connect", target)
	if err == nil {
		err = connectFD(fd, target)
	}
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	_, err = unix.Write(fd, []byte("x"))
	return err
}

func helpSocket(how, at string) (fd int, err error) {
	family, proto := unix.AF_INET6, unix.IPPROTO_TCP
	if netip.MustParseAddrPort(at).Addr().Is4() {
		family = unix.AF_INET
	}
	if how == "mptcp" {
		proto = unix.IPPROTO_MPTCP
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, proto)
	switch {
	case err != nil:
	case how == "v6only":
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	case how == "from":
		err = helpBind(fd, at)
	}
	return fd, err
}

// helpMany prints "ok" or the errno of the last connect(); all have the same result.
func helpMany(target, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	to, result := sockaddr(target), "ok"
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, to); err != nil {
			result = unix.ErrnoName(err.(unix.Errno))
		}
		if err := errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(fd)); err != nil {
			return err
		}
	}
	fmt.Println(result)
	return nil
}

// connectFD connects and prints the peer that getpeername returns.
func connectFD(fd int, target string) error {
	if err := unix.Connect(fd, sockaddr(target)); err != nil {
		return errors.New(unix.ErrnoName(err.(unix.Errno)))
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return err
	}
	fmt.Println("ok", addrPort(peer))
	return nil
}

// helpUDP sends a query from an unconnected or a connected socket, and prints the
// source of the answer or the errno.
func helpUDP(how, target string) error {
	family := unix.AF_INET6
	if netip.MustParseAddrPort(target).Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if how == "connected" {
		if err := connectFD(fd, target); err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte("?"))
	} else {
		err = unix.Sendto(fd, []byte("?"), 0, sockaddr(target))
	}
	if err != nil {
		return errors.New(unix.ErrnoName(err.(unix.Errno)))
	}
	limit := unix.NsecToTimeval(int64(2 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	buf := make([]byte, 100)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return errors.New(unix.ErrnoName(err.(unix.Errno)))
	}
	fmt.Println(string(buf[:n]), addrPort(from))
	return nil
}

func sockaddr(target string) unix.Sockaddr {
	at := netip.MustParseAddrPort(target)
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

// addrPort keeps IPv4-mapped addresses as they are.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// helpPrompt connects from an address whose packets can leave the host, with a
// timeout of one second.
func helpPrompt(target string) error {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 7, 0, 1)}}
	d.SetMultipathTCP(false)
	conn, err := d.Dial("tcp", target)
	if err != nil {
		return err
	}
	fmt.Println("ok", conn.RemoteAddr())
	return conn.Close()
}

// helpServe listens until its standard input ends, and prints the peer of each
// connection.
func helpServe(network, addr string, mptcp bool) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	return helpListen(lc, network, addr)
}

func helpServeShared(addr string, device bool) error {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if device {
				err = errors.Join(err, unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"))
			}
		}), err)
	}}
	lc.SetMultipathTCP(false)
	return helpListen(lc, "tcp", addr)
}

func helpListen(lc net.ListenConfig, network, addr string) error {
	ln, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		fmt.Println(err)
		return err
	}
	go func() { // and keep the connections open
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Println(conn.RemoteAddr())
		}
	}()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// helpNames answers DNS queries by UDP, and listens by TCP, until its standard
// input ends.
func helpNames(addr string) error {
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	tcp, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for buf := make([]byte, 100); ; {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte("answer"), from)
		}
	}()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return errors.Join(udp.Close(), tcp.Close())
}
