// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tacit/redirect/sockdiag"

	"tacit/node/api"
	"tacit/node/workload"
)

// maxAncestors is more than any shell is deep.
const maxAncestors = 128

// sessionOf returns those connections by which the person at a process works on
// this host: held by the process or an ancestor of it, as sshd holds that of
// the shell; or named by SSH_CONNECTION in their environment, which also finds
// the way through a terminal multiplexer. The variable is a hint: it counts
// only as one of conns, which the kernel has listed.
func sessionOf(pid int, conns []sockdiag.Connection) []sockdiag.Connection {
	var out []sockdiag.Connection
	for _, p := range ancestors(pid) {
		inodes, named := socketsOf(p), sshConnection(p)
		for _, c := range conns {
			if (slices.Contains(inodes, c.Inode) || named == ends{c.Local, c.Remote}) && !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// loginSessions returns those connections whose holder has no terminal and
// started something that has: remote shells, whoever works in them. A server
// that somebody runs in a terminal is none. No environment counts here: any
// local user could choose it.
func loginSessions(conns []sockdiag.Connection) []sockdiag.Connection {
	var out []sockdiag.Connection
	if len(conns) == 0 {
		return nil
	}
	held := map[int][]uint32{} // by process
	for _, pid := range terminals() {
		for _, p := range ancestors(pid) {
			if _, known := held[p]; !known {
				held[p] = nil
				if _, terminal := stat(p); terminal == 0 {
					held[p] = socketsOf(p)
				}
			}
			for _, c := range conns {
				if slices.Contains(held[p], c.Inode) && !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// plainClients lists the connections to a port that the mesh doesn't carry;
// own are those by which the caller of ctx works on this host.
func (b backend) plainClients(ctx context.Context, port uint16) (plain, own []sockdiag.Connection, err error) {
	if port == 0 {
		return nil, nil, nil
	}
	conns, err := sockdiag.EstablishedOn(port)
	if err != nil {
		return nil, nil, err
	}
	if peer, ok := api.PeerFrom(ctx); ok && len(conns) > 0 {
		own = sessionOf(int(peer.PID), conns)
	}
	for _, c := range conns {
		if !slices.Contains(own, c) && !b.n.carries(c) {
			plain = append(plain, c)
		}
	}
	return plain, own, nil
}

// carries says whether a connection's other end is the daemon's, or that of a
// workload of this node, whose connections are judged.
func (n *Node) carries(c sockdiag.Connection) bool {
	if !c.Remote.Addr().IsLoopback() && c.Remote.Addr() != c.Local.Addr() {
		return false // of another host
	}
	others, _ := sockdiag.EstablishedOn(c.Remote.Port()) // can't be asked: plain
	for _, o := range others {
		if o.Local != c.Remote || o.Remote != c.Local {
			continue
		}
		id, err := n.tree.DaemonID()
		return err == nil && o.CgroupID == id || slices.ContainsFunc(n.local.Load().services, func(s localService) bool {
			return slices.ContainsFunc(s.cgroups, func(path string) bool { return workload.Within(path, o.CgroupID) })
		})
	}
	return false
}

// ends are the addresses of a connection, ours first.
type ends struct{ local, remote netip.AddrPort }

// ancestors are a process and what started it, as far up as can be seen.
func ancestors(pid int) []int {
	var out []int
	for pid > 0 && len(out) < maxAncestors {
		out = append(out, pid)
		pid, _ = stat(pid)
	}
	return out
}

// stat reads a process's parent and controlling terminal (proc(5)); 0 is none.
func stat(pid int) (parent, terminal int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	text = text[bytes.LastIndexByte(text, ')')+1:] // the name before it may hold anything
	var state string
	var group, session int
	_, _ = fmt.Sscan(string(text), &state, &parent, &group, &session, &terminal)
	return parent, terminal
}

// terminals are the processes that have a controlling terminal.
func terminals() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, terminal := stat(pid); terminal != 0 {
			out = append(out, pid)
		}
	}
	return out
}

// socketsOf are the inodes of the sockets that a process has open.
func socketsOf(pid int) []uint32 {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // a process that is gone has none
	var out []uint32
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		var inode uint32
		if n, _ := fmt.Sscanf(target, "socket:[%d]", &inode); n == 1 {
			out = append(out, inode)
		}
	}
	return out
}

// sshConnection reads "client port server port" (ssh(1)).
func sshConnection(pid int) ends {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for variable := range strings.SplitSeq(string(text), "\x00") {
		value, ok := strings.CutPrefix(variable, "SSH_CONNECTION=")
		f := strings.Fields(value)
		if !ok || len(f) != 4 {
			continue
		}
		return ends{addrPort(f[2], f[3]), addrPort(f[0], f[1])}
	}
	return ends{}
}

func addrPort(host, port string) netip.AddrPort {
	addr, err := netip.ParseAddr(host)
	n, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(n))
}
