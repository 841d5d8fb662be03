// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"net/netip"
	"path/filepath"
)

// groups lists the steps of a start in their order.
func (f facts) groups() []group {
	return []group{f.stateFiles(), f.cgroups(), f.ports(), f.maps(), f.programs(), f.listeners(), f.routes(), f.services(), f.leftAlone()}
}

func (f facts) runs() bool { return f.daemon != 0 }

func (f facts) stateFiles() group {
	g := group{title: "Files"}
	g.make(f.exists(f.StateDir), "%s, the state (mode 0700)", f.StateDir)
	for _, path := range f.files {
		g.make(f.exists(path), "%s", path)
	}
	g.make(f.exists(f.RunDir), "%s, for the CLI's socket (mode 0755)", f.RunDir)
	g.make(f.runs() && f.exists(f.Socket()), "%s, the CLI's socket", f.Socket())
	if f.Confirm > 0 {
		g.step(stateAdd, "%s, until tacit confirm or for %s", deadlineFile(f.Paths), f.Confirm)
	}
	return g
}

func (f facts) cgroups() group {
	g := group{title: "Cgroups"}
	own := filepath.Join(f.Cgroup, "tacit")
	daemon, probe, checks := filepath.Join(own, "daemon"), filepath.Join(own, "probe"), filepath.Join(own, "checks")
	for _, path := range []string{own, daemon, probe, checks} {
		g.make(f.exists(path), "%s", path)
	}
	g.make(f.runs(), "tacitd's own process moves to %s: its connections are exempt", daemon)
	g.make(f.runs(), "a child of tacitd runs in %s: it tries what programs do, for tacit status", probe)
	g.make(f.runs(), "scripts of health checks run below %s, each in a cgroup of its own", checks)
	if f.Confirm > 0 {
		g.step(stateAdd, "a cgroup and a process beside it that undoes all this unless tacit confirm comes within %s", f.Confirm)
	}
	return g
}

func (f facts) ports() group {
	g := group{title: "Ports"}
	g.make(f.runs(), "listen on %s, TCP: lanes and enrolment", netip.AddrPortFrom(f.Addr, f.LanePort))
	g.make(f.runs(), "listen on port %d of that interface's other addresses, TCP: other nodes verify there that the address is this node's", f.LanePort)
	g.make(f.runs(), "listen on %s, UDP and TCP: gossip", netip.AddrPortFrom(f.Addr, f.GossipPort))
	if f.MetricsAt.IsValid() {
		g.make(f.runs(), "listen on %s, TCP: metrics, for programs of this host only", f.MetricsAt)
	}
	for _, d := range f.definitions {
		if d.Ingress != nil {
			g.make(f.runs(), "listen on %s, TCP, while an intention lets %s in: plain connections of any host (%s)", d.Ingress.Listen(), d.Name, d.Source)
		}
	}
	return g
}

func (f facts) listeners() group {
	g := group{title: "Listeners for captured connections and DNS queries, on loopback only, each on a free port"}
	hosts := []string{"127.0.0.1"}
	if f.ipv6 {
		hosts = append(hosts, "::1")
	}
	for _, host := range hosts {
		g.make(f.runs(), "%s, TCP: connections to virtual addresses", host)
	}
	for _, host := range hosts {
		g.make(f.runs(), "%s, UDP and TCP: DNS queries from other network namespaces", host)
	}
	for _, r := range f.captured {
		for _, host := range hosts {
			g.make(f.runs(), "%s, UDP and TCP: DNS queries to %s, from %s", host, r, f.ResolvConf)
		}
	}
	return g
}
