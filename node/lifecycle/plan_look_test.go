// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/config"
)

// validConfig is a Config that settles, with every path below dir and the whole
// cgroup tree for its root.
func validConfig(dir string) config.Config {
	return config.Config{
		Node: "host1", Address: "192.0.2.1", Default: "deny", Redirect: config.Auto, GossipPort: 7946, LanePort: 7947,
		Range4: netip.MustParsePrefix("240.64.0.0/12"), Range6: netip.MustParsePrefix("fd7a:ac17::/32"),
		Membership: config.Membership{TrustDomain: "tacit.local", LeafTTL: time.Hour},
		Paths: config.Paths{
			StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), BPFDir: filepath.Join(dir, "bpf"),
			ServicesDir: filepath.Join(dir, "services"), ResolvConf: filepath.Join(dir, "resolv.conf"),
		},
	}
}

// anyMember lets every start into a mesh.
func anyMember() Member {
	return Member{Check: func(*config.Settled) error { return nil }, Files: func(s *config.Settled) []string { return []string{s.State("node.key")} }}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPlanRefuses: an error of a start is an error of its plan, and nothing is
// printed.
func TestPlanRefuses(t *testing.T) {
	noMesh := errors.New("this node is in no mesh yet")
	for want, change := range map[string]func(*config.Config, *Member){
		"--node":                      func(c *config.Config, _ *Member) { c.Node = "no_label" },
		"not in a cgroup v2 tree":     func(c *config.Config, _ *Member) { c.Cgroup = c.StateDir },
		"services folder":             func(c *config.Config, _ *Member) { c.ServicesDir = c.ResolvConf },
		"name servers of the host":    func(c *config.Config, _ *Member) { c.ResolvConf += ".absent" },
		"this node is in no mesh yet": func(_ *config.Config, m *Member) { m.Check = func(*config.Settled) error { return noMesh } },
	} {
		c, m := validConfig(t.TempDir()), anyMember()
		write(t, c.ResolvConf, "nameserver 192.0.2.53\n")
		if err := os.Mkdir(c.StateDir, 0o700); err != nil {
			t.Fatal(err)
		}
		change(&c, &m)
		var out strings.Builder
		if err := Plan(c, &out, m); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%v, want %s; printed %q", err, want, out.String())
		}
	}
}

// TestLookResolvers: an excluded resolver is left alone.
func TestLookResolvers(t *testing.T) {
	c := validConfig(t.TempDir())
	c.Exclude.CIDRs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	write(t, c.ResolvConf, "nameserver 192.0.2.53\nnameserver 198.51.100.53\n")
	captured, excluded, err := lookResolvers(&config.Settled{Config: c})
	if err != nil || len(captured) != 1 || captured[0].String() != "192.0.2.53" || len(excluded) != 1 || excluded[0].String() != "198.51.100.53" {
		t.Errorf("captured %v, excluded %v, %v", captured, excluded, err)
	}
}

// TestPlanOnAHost looks at a real host: nothing of a start is there, and a plan
// changes nothing.
func TestPlanOnAHost(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	c := hostConfig(host)
	c.ResolvConf = filepath.Join(host.Dir, "plan.conf")
	write(t, c.ResolvConf, "nameserver 192.0.2.53\n")
	before := host.Snapshot(t)
	var out strings.Builder
	if err := host.Do(func() error { return Plan(c, &out, anyMember()) }); err != nil {
		t.Fatal(err)
	}
	if after := host.Snapshot(t); after != before {
		t.Errorf("the plan changed the host\nbefore:\n%s\nafter:\n%s", before, after)
	}
	for _, want := range []string{
		"  present   " + host.State + ", the state",
		"  add       " + filepath.Join(host.State, "node.key"),
		"  add       " + filepath.Join(host.Cgroup, "tacit/daemon"),
		"  add       lookup (SkLookup) on this network namespace, pinned as " + host.BPF,
		"  add       ip -4 route add blackhole 240.64.0.0/12",
		"queries to 192.0.2.53",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the plan", want)
		}
	}
	for _, word := range []string{"\n  remove", "\n  update", "A tacitd runs here"} {
		if strings.Contains(out.String(), word) {
			t.Errorf("%q on a host without tacit", word)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// hostConfig is the Config of a test host's daemon.
func hostConfig(host *testhost.Host) config.Config {
	c := validConfig(host.Dir)
	c.StateDir, c.RunDir, c.BPFDir, c.ServicesDir = host.State, host.RunDir, host.BPF, host.Services
	c.Cgroup, c.Address = host.Cgroup, host.Addr.String()
	return c
}
