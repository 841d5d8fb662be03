// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"tacit/bpf"
	"tacit/bpf/pinfs"
	"tacit/node/config"
	"tacit/node/datapath"
	"tacit/node/definition"
	"tacit/node/definition/folder"
	"tacit/node/dns"
	"tacit/node/workload"
	"tacit/redirect"
	"tacit/redirect/links"
)

// facts are the settings and all that a plan depends on; the groups of steps
// follow from them without another look at the host.
type facts struct {
	*config.Settled
	daemon      int                    // process of the tacitd that runs here; 0: none does
	exists      func(path string) bool // asked about files, folders and cgroups
	ipv6        bool
	captured    []netip.Addr // resolvers whose queries are captured
	excluded    []netip.Addr // resolvers that are left alone
	files       []string     // paths of those that a start keeps in StateDir
	mount       string       // where a bpffs would be mounted; "": there is one
	pins        []bpf.Pin
	steering    steering
	definitions []definition.Definition
	bad         []definition.Problem
}

// steering is what a start sets up to steer packets, and how the host differs.
type steering struct {
	want       string   // one command a line
	drift      []string // as redirect.Drift reports it
	noIptables bool     // TPROXY is wanted, and the host has no iptables
}

// look reads what a start reads before it changes anything.
func look(s *config.Settled, m Member) (facts, error) {
	f := facts{Settled: s, exists: exists, ipv6: links.HasIPv6(), mount: pinfs.Missing(s.BPFDir)}
	tree, err := workload.NewTree(s.Cgroup)
	if err != nil {
		return f, err
	}
	s.Cgroup = tree.Root()
	if pids := tree.Daemons(); len(pids) > 0 {
		f.daemon = pids[0]
	}
	if _, err := folder.New(s.ServicesDir); err != nil {
		return f, err
	}
	if err := m.Check(s); err != nil {
		return f, err
	}
	f.files = m.Files(s)
	f.definitions, f.bad = folder.Load(s.ServicesDir)
	if f.captured, f.excluded, err = lookResolvers(s); err != nil {
		return f, err
	}
	if f.pins, err = bpf.Pins(bpf.Config{PinDir: s.BPFDir, Cgroup: s.Cgroup}); err != nil {
		return f, err
	}
	f.steering, err = lookSteering(s, f.captured, definition.Answers(slices.Values(f.definitions)))
	return f, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func lookResolvers(s *config.Settled) (captured, excluded []netip.Addr, err error) {
	all, _, err := dns.Resolvers(s.ResolvConf)
	for _, a := range all {
		if s.Exclude.Covers(netip.AddrPortFrom(a, 53)) {
			excluded = append(excluded, a)
		} else {
			captured = append(captured, a)
		}
	}
	return captured, excluded, err
}

// lookSteering compares routes, rules and chains with what is there. The
// listeners' ports are known only to a start, so every rule that names one
// differs.
func lookSteering(s *config.Settled, captured []netip.Addr, answers []uint16) (steering, error) {
	c, noIptables := datapath.Steering(s, captured)
	c.Port4, c.DNSPort4, c.Port6, c.DNSPort6 = 1, 2, 3, 4
	c.Answers = answers
	want := redirect.NewPlan(c)
	drift, err := redirect.Drift(want)
	return steering{want: want.String(), drift: drift, noIptables: noIptables}, err
}

// lines returns the commands for what a start sets, and which of them are missing.
func (s steering) lines() (want []string, missing map[string]bool) {
	missing = map[string]bool{}
	for _, line := range s.drift {
		if text, ok := strings.CutPrefix(line, "missing: "); ok {
			missing[text] = true
		}
	}
	for line := range strings.Lines(s.want) {
		want = append(want, strings.TrimSpace(line))
	}
	return want, missing
}

// leftOver returns the commands for what a start removes.
func (s steering) leftOver() []string {
	var out []string
	for _, line := range s.drift {
		if text, ok := strings.CutPrefix(line, "left over: "); ok {
			out = append(out, text)
		}
	}
	return out
}
