// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/node/config"
	"tacit/node/definition"
)

var update = flag.Bool("update", false, "write the golden files")

// bareHost is a host on which no tacitd ever ran.
func bareHost() facts {
	return facts{
		Settled: &config.Settled{Addr: netip.MustParseAddr("192.0.2.1"), Config: config.Config{
			Cgroup: "/cg", LanePort: 7947, GossipPort: 7946,
			Paths: config.Paths{StateDir: "/state", RunDir: "/run/t", BPFDir: "/bpf/t", ServicesDir: "/services", ResolvConf: "/etc/resolv.conf"},
		}},
		exists: present(),
		files:  []string{"/state/state.db", "/state/node.key", "/state/node.crt"},
	}
}

// present is a host on which exactly these paths exist.
func present(paths ...string) func(string) bool {
	return func(path string) bool { return slices.Contains(paths, path) }
}

func (g group) lines() []string {
	var out []string
	for _, s := range g.steps {
		out = append(out, s.state+" "+s.text)
	}
	return out
}

// TestSteps is a table of what each group says: the host, as it differs from a
// bare one, and the steps that follow.
func TestSteps(t *testing.T) {
	for _, row := range []struct {
		name  string
		host  func(f *facts)
		group func(facts) group
		want  []string
	}{
		{"files of a new node", func(*facts) {}, facts.stateFiles, []string{
			"add /state, the state (mode 0700)",
			"add /state/state.db",
			"add /state/node.key",
			"add /state/node.crt",
			"add /run/t, for the CLI's socket (mode 0755)",
			"add /run/t/tacit.sock, the CLI's socket",
		}},
		{"files of a member after a crash: the old socket is replaced", func(f *facts) {
			f.exists = present("/state", "/state/state.db", "/state/node.key", "/state/node.crt", "/run/t", "/run/t/tacit.sock")
		}, facts.stateFiles, []string{
			"present /state, the state (mode 0700)",
			"present /state/state.db",
			"present /state/node.key",
			"present /state/node.crt",
			"present /run/t, for the CLI's socket (mode 0755)",
			"add /run/t/tacit.sock, the CLI's socket",
		}},
		{"files of a start to confirm", func(f *facts) { f.Confirm, f.files = time.Minute, nil }, facts.stateFiles, []string{
			"add /state, the state (mode 0700)",
			"add /run/t, for the CLI's socket (mode 0755)",
			"add /run/t/tacit.sock, the CLI's socket",
			"add /run/t/unconfirmed, until tacit confirm or for 1m0s",
		}},
		{"cgroups", func(f *facts) { f.exists = present("/cg/tacit") }, facts.cgroups, []string{
			"present /cg/tacit",
			"add /cg/tacit/daemon",
			"add /cg/tacit/probe",
			"add /cg/tacit/checks",
			"add tacitd's own process moves to /cg/tacit/daemon: its connections are exempt",
			"add a child of tacitd runs in /cg/tacit/probe: it tries what programs do, for tacit status",
			"add scripts of health checks run below /cg/tacit/checks, each in a cgroup of its own",
		}},
		{"cgroups of a start to confirm, beside a daemon", func(f *facts) {
			f.Confirm, f.daemon = time.Minute, 7
			f.exists = present("/cg/tacit", "/cg/tacit/daemon", "/cg/tacit/probe")
		}, facts.cgroups, []string{
			"present /cg/tacit",
			"present /cg/tacit/daemon",
			"present /cg/tacit/probe",
			"add /cg/tacit/checks",
			"present tacitd's own process moves to /cg/tacit/daemon: its connections are exempt",
			"present a child of tacitd runs in /cg/tacit/probe: it tries what programs do, for tacit status",
			"present scripts of health checks run below /cg/tacit/checks, each in a cgroup of its own",
			"add a cgroup and a process beside it that undoes all this unless tacit confirm comes within 1m0s",
		}},
		{"ports", func(*facts) {}, facts.ports, []string{
			"add listen on 192.0.2.1:7947, TCP: lanes and enrolment",
			"add listen on port 7947 of that interface's other addresses, TCP: other nodes verify there that the address is this node's",
			"add listen on 192.0.2.1:7946, UDP and TCP: gossip",
		}},
		{"listeners without IPv6", func(*facts) {}, facts.listeners, []string{
			"add 127.0.0.1, TCP: connections to virtual addresses",
			"add 127.0.0.1, UDP and TCP: DNS queries from other network namespaces",
		}},
		{"listeners: two for each captured resolver", func(f *facts) {
			f.ipv6, f.captured = true, []netip.Addr{netip.MustParseAddr("192.0.2.53")}
		}, facts.listeners, []string{
			"add 127.0.0.1, TCP: connections to virtual addresses",
			"add ::1, TCP: connections to virtual addresses",
			"add 127.0.0.1, UDP and TCP: DNS queries from other network namespaces",
			"add ::1, UDP and TCP: DNS queries from other network namespaces",
			"add 127.0.0.1, UDP and TCP: DNS queries to 192.0.2.53, from /etc/resolv.conf",
			"add ::1, UDP and TCP: DNS queries to 192.0.2.53, from /etc/resolv.conf",
		}},
		{"maps, where no bpffs is mounted", func(f *facts) {
			f.mount, f.pins = "/bpf", []bpf.Pin{{Path: "/bpf/t/names"}, {Path: "/bpf/t/link_lookup", Hook: "lookup (SkLookup)"}}
		}, facts.maps, []string{
			"add mount a bpffs at /bpf (mode 0700)",
			"add /bpf/t (mode 0700)",
			"add /bpf/t/names",
		}},
		{"maps of an earlier version: one is new", func(f *facts) {
			f.exists, f.pins = present("/bpf/t"), []bpf.Pin{{Path: "/bpf/t/names", Present: true}, {Path: "/bpf/t/ports"}}
		}, facts.maps, []string{
			"present /bpf/t (mode 0700)",
			"present /bpf/t/names",
			"add /bpf/t/ports",
		}},
		{"programs: missing, in place, detached", func(f *facts) {
			f.pins = []bpf.Pin{
				{Path: "/bpf/t/names"},
				{Path: "/bpf/t/link_a", Hook: "a (SkLookup)", Where: "this network namespace"},
				{Path: "/bpf/t/link_b", Hook: "b (CGroupSockOps)", Where: "the cgroup /cg", Present: true},
				{Path: "/bpf/t/link_c", Hook: "c (CGroupSockOps)", Where: "the cgroup /cg", Present: true, Problem: "the cgroup is another one"},
			}
		}, facts.programs, []string{
			"add a (SkLookup) on this network namespace, pinned as /bpf/t/link_a",
			"update b (CGroupSockOps) on the cgroup /cg, pinned as /bpf/t/link_b: replaced by this version's program",
			"update c (CGroupSockOps) on the cgroup /cg, pinned as /bpf/t/link_c: attached again (the cgroup is another one)",
		}},
		{"routes: missing, in place, left over, with ports that nobody knows yet", func(f *facts) {
			f.steering = steering{
				want:  "ip route a\niptables -j TPROXY --on-port 1 --on-ip 127.0.0.1\n",
				drift: []string{"missing: iptables -j TPROXY --on-port 1 --on-ip 127.0.0.1", "left over: ip rule del b"},
			}
		}, facts.routes, []string{
			"present ip route a",
			"add iptables -j TPROXY --on-port FREE-PORT --on-ip 127.0.0.1",
			"remove ip rule del b",
		}},
		{"routes without iptables", func(f *facts) { f.steering = steering{want: "ip route a\n", noIptables: true} }, facts.routes, []string{
			"present ip route a",
			"untouched iptables is not installed: programs in other network namespaces are not captured (apt-get install iptables)",
		}},
		{"an ingress", func(f *facts) {
			f.definitions = []definition.Definition{{Name: "ingress/a", Source: "a.hcl:1", Ingress: &definition.Ingress{Port: 80, Service: "web"}}, {ID: "db", Port: 5432}}
		}, func(f facts) group { g := f.ports(); g.steps = g.steps[3:]; return g }, []string{
			"add listen on *:80, TCP, while an intention lets ingress/a in: plain connections of any host (a.hcl:1)",
		}},
		{"services: none", func(*facts) {}, facts.services, []string{"untouched none: /services defines no service with a port"}},
		{"services: a strict, a permissive, a caller, an excluded port, a bad file", func(f *facts) {
			f.exists = present("/state/state.db")
			f.Exclude = config.Exclude{Ports: []uint16{22}}
			f.definitions = []definition.Definition{
				{ID: "db", Port: 5432, Source: "db.hcl:1"},
				{ID: "old", Port: 80, Permissive: true, Source: "old.hcl:1"},
				{ID: "cron", Source: "cron.hcl:1"},
				{ID: "ssh", Port: 22, Source: "ssh.hcl:1"},
			}
			f.bad = []definition.Problem{{File: "bad.hcl", Line: 2, Column: 1, Message: "no name"}}
		}, facts.services, []string{
			"add close port 5432 of db (db.hcl:1)",
			"untouched port 80 of old (old.hcl:1): permissive, plain connections are let in",
			"add close port 22 of ssh (ssh.hcl:1)",
			"conflict port 22 of ssh (ssh.hcl:1) is excluded by exclude.ports: the port of a service can't be excluded; remove it there, or use another port",
			"conflict bad.hcl:2:1: no name",
			"present the ports of services that were registered by command earlier",
		}},
		{"left alone", func(f *facts) {
			f.Exclude = config.Exclude{Ports: []uint16{22, 25}, CIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
				UIDs: []uint32{7}, Cgroups: []string{"/cg/system.slice"}}
			f.excluded = []netip.Addr{netip.MustParseAddr("198.51.100.53")}
		}, func(f facts) group { g := f.leftAlone(); g.steps = g.steps[3:]; return g }, []string{
			"untouched connections to ports 22 25 (excluded)",
			"untouched connections to networks 198.51.100.0/24 (excluded)",
			"untouched connections and DNS queries of users 7 (excluded)",
			"untouched connections and DNS queries from cgroups /cg/system.slice (excluded)",
			"untouched DNS queries to 198.51.100.53: it is excluded",
		}},
	} {
		f := bareHost()
		row.host(&f)
		if got := row.group(f).lines(); !slices.Equal(got, row.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", row.name, strings.Join(got, "\n"), strings.Join(row.want, "\n"))
		}
	}
}

// TestPrint compares the whole text of a plan with the golden file.
func TestPrint(t *testing.T) {
	f := bareHost()
	f.daemon, f.ipv6, f.Confirm = 42, true, time.Minute
	f.captured = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	f.pins = []bpf.Pin{{Path: "/bpf/t/names"}, {Path: "/bpf/t/link_lookup", Hook: "lookup (SkLookup)", Where: "this network namespace"}}
	f.steering = steering{want: "ip -4 route add blackhole 240.64.0.0/12\n", drift: []string{"left over: ip -4 rule del priority 1160"}}
	f.definitions = []definition.Definition{{ID: "db", Port: 5432, Source: "/services/db.hcl:1"}}
	var out strings.Builder
	if err := printPlan(&out, f.daemon, f.groups()); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "plan.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the plan differs from %s (go test -update writes it):\n%s", golden, out.String())
	}
}
