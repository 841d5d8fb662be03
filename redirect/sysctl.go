// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// SysctlProblems lists the sysctls of this network namespace that make capture of other namespaces fail silently, one line
// each, with the cure. It changes nothing: they are the operator's.
func SysctlProblems() []string { return sysctlProblems(os.DirFS("/proc/sys/net")) }

func sysctlProblems(net fs.FS) []string {
	var out []string
	// The kernel uses src_valid_mark if it is set on "all" or on the interface, and the greater of the two values of rp_filter.
	if on := interfacesWith(net, "ipv4/conf", "src_valid_mark", "1"); len(on) > 0 {
		out = append(out, fmt.Sprintf("src_valid_mark is 1 on %s: tproxy's packets are dropped as martians; set net.ipv4.conf.%s.src_valid_mark=0", strings.Join(on, ", "), on[0]))
	}
	loose := slices.Contains(interfacesWith(net, "ipv4/conf", "rp_filter", "2"), "all")
	if on := interfacesWith(net, "ipv4/conf", "rp_filter", "1"); len(on) > 0 && !loose {
		out = append(out, fmt.Sprintf("rp_filter is 1 (strict) on %s: captured packets can be dropped where routes are asymmetric; set net.ipv4.conf.%s.rp_filter=2", strings.Join(on, ", "), on[0]))
	}
	if on := interfacesWith(net, "ipv6/conf", "disable_ipv6", "1"); slices.Contains(on, "all") || slices.Contains(on, "lo") {
		out = append(out, fmt.Sprintf("disable_ipv6 is 1 on %s: IPv6 can't be captured; set net.ipv6.conf.lo.disable_ipv6=0", strings.Join(on, ", ")))
	}
	return out
}

// interfacesWith returns the interfaces under dir whose setting has the value, "all" first.
func interfacesWith(net fs.FS, dir, name, value string) []string {
	entries, err := fs.ReadDir(net, dir)
	if err != nil {
		return nil // the kernel lacks this family
	}
	var out []string
	for _, e := range entries {
		b, err := fs.ReadFile(net, path.Join(dir, e.Name(), name))
		if err != nil || strings.TrimSpace(string(b)) != value {
			continue
		}
		if e.Name() == "all" {
			out = slices.Insert(out, 0, "all")
		} else {
			out = append(out, e.Name())
		}
	}
	return out
}
