// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"tacit/bpf"
	"tacit/node/workload"
	"tacit/redirect"
)

// finding is one line of doctor.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Hint string `json:"hint,omitempty"`
}

// Doctor examines the host, prints what it found, and says whether it is fit.
// It needs no daemon and changes nothing.
func Doctor(c Config, asJSON bool, w io.Writer) (fit bool, err error) {
	found := []finding{checkKernel(), checkCgroup(c), checkBPF(c), checkIptables(), checkSysctls(), checkLimits()}
	found = append(found, checkPort(c, "gossip port", c.GossipPort), checkPort(c, "lane port", c.LanePort))
	fit = true
	for _, f := range found {
		fit = fit && f.OK
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return fit, enc.Encode(found)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		mark := "ok"
		if !f.OK {
			mark = "NOT FIT"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, mark, f.Says)
		if f.Hint != "" {
			fmt.Fprintf(tw, "\t\t-> %s\n", f.Hint)
		}
	}
	return fit, tw.Flush()
}

func checkKernel() finding {
	var u unix.Utsname
	f := finding{Name: "kernel", OK: true}
	if err := unix.Uname(&u); err != nil {
		return finding{Name: "kernel", Says: err.Error()}
	}
	f.Says = unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(f.Says, "%d.%d", &major, &minor); err != nil || major < 6 || (major == 6 && minor < 7) {
		f.OK, f.Hint = false, "tacit needs Linux 6.7 or newer (cgroup/connect_unix)"
	}
	return f
}

func checkCgroup(c Config) finding {
	root, err := c.tree()
	if err == nil {
		err = workload.Check(root)
	}
	if err != nil {
		return finding{Name: "cgroup v2", Says: err.Error()}
	}
	return finding{Name: "cgroup v2", OK: true, Says: root}
}

func checkBPF(c Config) finding {
	if err := bpf.Probe(); err != nil {
		return finding{Name: "eBPF", Says: err.Error(), Hint: "run as root on a kernel with CONFIG_CGROUP_BPF and BTF (/sys/kernel/btf/vmlinux)"}
	}
	return finding{Name: "eBPF", OK: true, Says: "hooks load; pins go to " + c.BPFDir}
}

func checkIptables() finding {
	out, err := exec.Command("iptables", "--version").Output()
	if err != nil {
		return finding{Name: "iptables", OK: true, Says: "not installed: programs in other network namespaces can't be captured",
			Hint: "apt-get install iptables"}
	}
	return finding{Name: "iptables", OK: true, Says: strings.TrimSpace(string(out))}
}

func checkSysctls() finding {
	if bad := redirect.SysctlProblems(); len(bad) > 0 {
		return finding{Name: "sysctls", OK: true, Says: strings.Join(bad, "; "),
			Hint: "capture from other network namespaces may fail; socket hooks are not affected"}
	}
	return finding{Name: "sysctls", OK: true, Says: "nothing in the way"}
}

func checkLimits() finding {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return finding{Name: "descriptors", Says: err.Error()}
	}
	f := finding{Name: "descriptors", OK: l.Max >= 4096, Says: fmt.Sprintf("%d at most, two for each connection", l.Max)}
	if !f.OK {
		f.Hint = "raise LimitNOFILE of the unit"
	}
	return f
}

// checkPort binds the port for a moment; a running tacitd holds it rightly.
func checkPort(c Config, name string, port uint16) finding {
	f := finding{Name: name, OK: true, Says: fmt.Sprintf("%d is free", port)}
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		addr = netip.IPv4Unspecified()
	}
	ln, err := listenTCP(context.Background(), addr, port)
	if err == nil {
		_ = ln.Close()
		return f
	}
	if _, statErr := os.Stat(c.SocketPath()); statErr == nil {
		f.Says = fmt.Sprintf("%d is held, by the running tacitd it seems", port)
		return f
	}
	f.OK, f.Says, f.Hint = false, err.Error(), "stop the program that holds it (ss -lntp), or give tacitd another port"
	return f
}
