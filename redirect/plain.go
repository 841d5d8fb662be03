// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"net/netip"
	"os"
)

// HasIPv6 reports whether this host's kernel has IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// Loopbacks are 127.0.0.1 and ::1.
func Loopbacks() [2]netip.Addr { return [2]netip.Addr{loopback(false), loopback(true)} }
