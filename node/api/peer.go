// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is the process that connected, as the kernel reports it. PIDFD refers to
// that process even after its PID has been reused; it is closed with the
// connection, and nil on kernels without SO_PEERPIDFD (before 6.5).
type Peer struct {
	PID      int32
	UID, GID uint32
	PIDFD    *os.File
}

type peerKey struct{}

// WithPeer puts a peer into a context, for the server and for tests.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom returns the process that sent the request of ctx.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// listener asks the kernel for the peer of each accepted connection.
type listener struct {
	*net.UnixListener
	path  string
	file  os.FileInfo
	once  sync.Once
	allow func(Peer, []uint32) bool
}

type conn struct {
	net.Conn
	peer    Peer
	allowed bool
}

// Accept returns a connection with its peer. A connection whose peer can't be
// determined is closed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer, groups, err := peerOf(c); err == nil {
			return &conn{Conn: c, peer: peer, allowed: l.allow(peer, groups)}, nil
		}
		_ = c.Close()
	}
}

// Close stops listening and removes the socket, unless another one is in its place.
func (l *listener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// Close closes the peer's pidfd as well.
func (c *conn) Close() error {
	err := c.Conn.Close()
	if c.peer.PIDFD != nil {
		_ = c.peer.PIDFD.Close() // a second Close returns an error, which is harmless
	}
	return err
}

// allowed returns the test for root, the daemon's own user, and members of gid.
func allowed(gid int) func(Peer, []uint32) bool {
	self := uint32(os.Geteuid())
	return func(p Peer, groups []uint32) bool {
		if p.UID == 0 || p.UID == self {
			return true
		}
		return gid >= 0 && (p.GID == uint32(gid) || slices.Contains(groups, uint32(gid)))
	}
}

func peerOf(u *net.UnixConn) (p Peer, groups []uint32, err error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return p, nil, err
	}
	ctl := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p.PID, p.UID, p.GID = cred.Pid, cred.Uid, cred.Gid
		groups = peerGroups(fd)
		if pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			p.PIDFD = os.NewFile(uintptr(pidfd), "pidfd")
		}
	})
	return p, groups, errors.Join(ctl, err)
}

// peerGroups returns the peer's supplementary groups; none on an error.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 1<<12) // with more groups, none is returned
	size := uint32(len(groups) * 4)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:size/4]
}
