// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
	text = text[bytes.LastIndexByte(text, ')')+1:] // the name before it may contain anything
	var state string
	var group, session int
	_, _ = fmt.Sscan(string(text), &state, &parent, &group, &session, &terminal)
	return parent, terminal
}

// withTerminal are the processes that have a controlling terminal.
func withTerminal() []int {
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
	entries, _ := os.ReadDir(dir) // a process that has ended has none
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

// sshConnection reads "client port server port" (ssh(1)) from a process's
// environment; zero when it isn't there.
func sshConnection(pid int) ends {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return parseSSH(string(text))
}

func parseSSH(environment string) ends {
	for variable := range strings.SplitSeq(environment, "\x00") {
		value, ok := strings.CutPrefix(variable, "SSH_CONNECTION=")
		f := strings.Fields(value)
		if ok && len(f) == 4 {
			return ends{local: addrPort(f[2], f[3]), remote: addrPort(f[0], f[1])}
		}
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
