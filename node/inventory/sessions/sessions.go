// SPDX-License-Identifier: Apache-2.0

// Package sessions finds the TCP connections by which people are logged in to
// this host, so that an enrolment doesn't lock them out. It only reads /proc;
// it must not decide what becomes of a connection.
package sessions

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tacit/redirect/sockdiag"
)

// maxAncestors is deeper than any shell.
const maxAncestors = 128

// Of returns those of conns by which the person at a process works on this
// host. The process or an ancestor of it holds them, as sshd holds that of the
// shell; or SSH_CONNECTION in the environment of one of them names them, which
// also finds the way through a terminal multiplexer. The variable is a hint:
// it counts only for a connection in conns, which the kernel has listed.
func Of(pid int, conns []sockdiag.Connection) []sockdiag.Connection {
	if len(conns) == 0 {
		return nil
	}
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

// Logins returns those of conns that are remote shells, whoever works in them:
// their holder has no terminal and started a process that has one. A server
// that somebody runs in a terminal is none. The environment doesn't count
// here, since any local user can choose it.
func Logins(conns []sockdiag.Connection) []sockdiag.Connection {
	if len(conns) == 0 {
		return nil
	}
	var inodes []uint32
	seen := map[int]bool{}
	for _, pid := range withTerminal() {
		for _, p := range ancestors(pid) {
			if seen[p] {
				break // and so are its ancestors
			}
			seen[p] = true
			if _, terminal := stat(p); terminal == 0 {
				inodes = append(inodes, socketsOf(p)...)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(conns), func(c sockdiag.Connection) bool { return !slices.Contains(inodes, c.Inode) })
}

// Remotes names up to five of the remote ends.
func Remotes(conns []sockdiag.Connection) string {
	const most = 5
	var out []string
	for _, c := range conns[:min(len(conns), most)] {
		out = append(out, c.Remote.String())
	}
	text := strings.Join(out, ", ")
	if more := len(conns) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ends are the addresses of a connection.
type ends struct{ local, remote netip.AddrPort }
