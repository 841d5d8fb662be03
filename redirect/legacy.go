// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// legacyInfo is struct ipt_getinfo (linux/netfilter_ipv4/ip_tables.h), the same for IPv6.
type legacyInfo struct {
	name            [32]byte
	hooks           uint32
	entry, overflow [5]uint32
	entries, size   uint32
}

const legacyGetInfo = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO

// legacySizes is the number and size of the rules in each table of the legacy backend; a flush changes them. It asks only
// for tables that exist, since asking creates them.
func legacySizes() string {
	var out strings.Builder
	for _, f := range []struct {
		family, level int
		names         string
	}{
		{unix.AF_INET, unix.SOL_IP, "ip_tables_names"},
		{unix.AF_INET6, unix.SOL_IPV6, "ip6_tables_names"},
	} {
		names, err := os.ReadFile("/proc/thread-self/net/" + f.names)
		if err != nil || len(names) == 0 {
			continue
		}
		fd, err := unix.Socket(f.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			continue // Drift compares every few seconds anyway
		}
		for _, table := range strings.Fields(string(names)) {
			fmt.Fprintf(&out, "%s %s ", table, legacySize(fd, f.level, table))
		}
		_ = unix.Close(fd)
	}
	return out.String()
}

func legacySize(fd, level int, table string) string {
	var info legacyInfo
	copy(info.name[:len(info.name)-1], table)
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), legacyGetInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno.Error()
	}
	return fmt.Sprint(info.entries, ":", info.size)
}
