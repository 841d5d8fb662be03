// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attachTypes is above every value of enum bpf_attach_type in use; those that
// a kernel doesn't know, or that don't fit the target, answer EINVAL.
const attachTypes = 64

// attached lists the programs attached to a cgroup (not those above it), to
// the current network namespace, and to its interfaces (tcx).
func attached(cgroup string) ([]string, error) {
	var lines []string
	for _, t := range [][2]string{{"cgroup", cgroup}, {"namespace", "/proc/thread-self/ns/net"}} {
		f, err := os.Open(t[1])
		if err != nil {
			return nil, err
		}
		lines = append(lines, query(t[0], uint32(f.Fd()))...)
		f.Close()
	}
	links, err := net.Interfaces()
	for _, l := range links {
		lines = append(lines, query(l.Name, uint32(l.Index))...)
	}
	return lines, err
}

// query lists by attach type how many programs a target has.
func query(name string, target uint32) []string {
	var lines []string
	for kind := range uint32(attachTypes) {
		isLink := kind == unix.BPF_TCX_INGRESS || kind == unix.BPF_TCX_EGRESS // their target is an index, no descriptor
		if isLink != (name != "cgroup" && name != "namespace") {
			continue
		}
		if n := queryOne(target, kind); n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d of attach type %d", name, n, kind))
		}
	}
	return lines
}

func queryOne(target, kind uint32) uint32 {
	var attr struct { // union bpf_attr, query
		target, kind, flags, attachFlags uint32
		ids                              uint64
		count, pad                       uint32
		progFlags, linkIDs, linkFlags    uint64
		revision                         uint64
	}
	attr.target, attr.kind = target, kind
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
		return 0
	}
	return attr.count
}
