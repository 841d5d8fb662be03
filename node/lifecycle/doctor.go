// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"tacit/node/config"
)

// finding is one line of doctor.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Hint string `json:"hint,omitempty"`
}

// Doctor examines the host, prints what it found, and reports whether the host
// is fit. It needs no daemon and leaves nothing changed.
func Doctor(c config.Config, asJSON bool, w io.Writer) (fit bool, err error) {
	found := examine(c, thisHost(c))
	fit = true
	for _, f := range found {
		fit = fit && f.OK
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return fit, enc.Encode(struct {
			Version  int       `json:"version"` // of this form
			Findings []finding `json:"findings"`
		}{1, found})
	}
	return fit, printFindings(w, found)
}

func printFindings(w io.Writer, found []finding) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		verdict := "ok"
		if !f.OK {
			verdict = "NOT FIT"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, verdict, f.Says)
		if f.Hint != "" {
			fmt.Fprintf(tw, "\t\t-> %s\n", f.Hint)
		}
	}
	return tw.Flush()
}

// examine turns the answers of a host into findings.
func examine(c config.Config, p probes) []finding {
	out := []finding{
		checkKernel(p), checkCgroup(p), checkBPF(c, p), checkIptables(p), checkSysctls(p), checkDescriptors(p), checkState(c, p),
		checkPort(c, p, "gossip port", c.GossipPort), checkPort(c, p, "lane port", c.LanePort),
	}
	if at, err := netip.ParseAddrPort(c.Metrics); err == nil {
		on := c
		on.Address = at.Addr().String()
		out = append(out, checkPort(on, p, "metrics port", at.Port()))
	}
	for _, d := range p.definitions() {
		if d.Ingress != nil {
			c.Address = d.Ingress.Address
			out = append(out, checkPort(c, p, string(d.Name), d.Ingress.Port))
		}
	}
	return out
}

func checkKernel(p probes) finding {
	release, err := p.release()
	if err != nil {
		return finding{Name: "kernel", Says: err.Error()}
	}
	f := finding{Name: "kernel", OK: true, Says: release}
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 6 || (major == 6 && minor < 7) {
		f.OK, f.Hint = false, "tacit needs Linux 6.7 or newer (cgroup/connect_unix)"
	}
	return f
}

func checkCgroup(p probes) finding {
	root, err := p.cgroup()
	if err != nil {
		return finding{Name: "cgroup v2", Says: err.Error()}
	}
	return finding{Name: "cgroup v2", OK: true, Says: root}
}

func checkBPF(c config.Config, p probes) finding {
	if err := p.programs(); err != nil {
		return finding{Name: "eBPF", Says: err.Error(), Hint: "run as root on a kernel with CONFIG_CGROUP_BPF and BTF (/sys/kernel/btf/vmlinux)"}
	}
	return finding{Name: "eBPF", OK: true, Says: "hooks load; pins go to " + c.BPFDir}
}

func checkIptables(p probes) finding {
	version, err := p.iptables()
	if err != nil {
		return finding{Name: "iptables", OK: true, Says: "not installed: programs in other network namespaces can't be captured",
			Hint: "apt-get install iptables"}
	}
	return finding{Name: "iptables", OK: true, Says: strings.TrimSpace(version)}
}

func checkSysctls(p probes) finding {
	if bad := p.sysctls(); len(bad) > 0 {
		return finding{Name: "sysctls", OK: true, Says: strings.Join(bad, "; "),
			Hint: "capture from other network namespaces may fail; socket hooks are not affected"}
	}
	return finding{Name: "sysctls", OK: true, Says: "nothing in the way"}
}

const minDescriptors = 4096

func checkDescriptors(p probes) finding {
	limit, err := p.descriptors()
	if err != nil {
		return finding{Name: "descriptors", Says: err.Error()}
	}
	f := finding{Name: "descriptors", OK: limit >= minDescriptors, Says: fmt.Sprintf("%d at most, one or two for each connection", limit)}
	if !f.OK {
		f.Hint = "raise LimitNOFILE of the unit"
	}
	return f
}

// checkState examines who can read this node's keys, and what a start put aside.
func checkState(c config.Config, p probes) finding {
	const name = "state folder"
	if err := p.keys(); err != nil {
		return finding{Name: name, Says: err.Error(), Hint: "tacitd doesn't start until it is changed"}
	}
	if aside := p.aside(); len(aside) > 0 {
		return finding{Name: name, OK: true, Says: "damaged files were kept: " + strings.Join(aside, ", "),
			Hint: "examine the disk, then remove them"}
	}
	return finding{Name: name, OK: true, Says: c.StateDir + " is its owner's alone"}
}

// checkPort finds a port fit that a running tacitd holds.
func checkPort(c config.Config, p probes, name string, port uint16) finding {
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		addr = netip.IPv4Unspecified()
	}
	switch err := p.listen(netip.AddrPortFrom(addr, port)); {
	case err == nil:
		return finding{Name: name, OK: true, Says: fmt.Sprintf("%d is free", port)}
	case p.exists(c.Socket()):
		return finding{Name: name, OK: true, Says: fmt.Sprintf("%d is in use, apparently by the running tacitd", port)}
	default:
		return finding{Name: name, Says: err.Error(), Hint: "stop the program that holds it (ss -lntp), or give tacitd another port"}
	}
}
