// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect"
)

// callers says who is which service now. What two services claim belongs to
// neither: which one it is can't be told.
type callers struct {
	kernel.Workloads
	clashes map[string]error
}

// workloads are those that this node may run, as they are found now.
func (n *Node) workloads(local *localView) kernel.Workloads {
	c := callers{clashes: map[string]error{}, Workloads: kernel.Workloads{
		Cgroups: map[uint64]identity.Name{}, Namespaces: map[uint64]identity.Name{},
		Users: map[uint32]identity.Name{}, Interfaces: map[uint32]identity.Name{},
	}}
	for _, svc := range local.services {
		if n.member.ledger.Granted(n.cfg.name, svc.Name) {
			c.add(svc)
		}
	}
	for _, all := range []map[uint64]identity.Name{c.Cgroups, c.Namespaces} {
		maps.DeleteFunc(all, func(_ uint64, name identity.Name) bool { return name == "" })
	}
	for _, all := range []map[uint32]identity.Name{c.Users, c.Interfaces} {
		maps.DeleteFunc(all, func(_ uint32, name identity.Name) bool { return name == "" })
	}
	n.problems.replace("workload", c.clashes)
	n.guests.Store(&c.Interfaces)
	return c.Workloads
}

func (c *callers) add(svc localService) {
	for _, path := range svc.cgroups {
		if id, err := workload.ID(path); err == nil {
			claim(c, c.Cgroups, id, svc.Name, path)
		}
	}
	if name := svc.Workload.NetNS; name != "" {
		c.addNamespace(svc, name)
	}
	if name := svc.Workload.Interface; name != "" {
		c.addInterface(svc, name)
	}
	if uid := svc.Workload.UID; uid != nil {
		claim(c, c.Users, *uid, svc.Name, fmt.Sprintf("uid %d", *uid))
	}
}

// addNamespace: its processes are seen by the hooks, or come by the interface
// that leads into it.
func (c *callers) addNamespace(svc localService, name string) {
	what := "network namespace " + name
	if cookie, err := workload.Namespace(name); err == nil {
		claim(c, c.Namespaces, cookie, svc.Name, what)
	}
	links, err := redirect.InterfacesTo(workload.NamespacePath(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.clashes[what] = err
	}
	for _, index := range links {
		claim(c, c.Interfaces, index, svc.Name, fmt.Sprintf("interface %d", index))
	}
}

func (c *callers) addInterface(svc localService, name string) {
	index, err := redirect.Interface(name)
	if err != nil {
		c.clashes["interface "+name] = err
		return
	}
	claim(c, c.Interfaces, index, svc.Name, "interface "+name)
}

// guest names who made a connection that no hook saw, by the interface that it
// came in by; "" is nobody.
func (n *Node) guest(conn *net.TCPConn, v6 bool) (name identity.Name, err error) {
	err = onFD(conn, func(fd int) error {
		index, err := redirect.Ingress(fd, v6)
		name = (*n.guests.Load())[index]
		return err
	})
	return name, err
}

func claim[K comparable](c *callers, all map[K]identity.Name, key K, service identity.Name, what string) {
	if other, taken := all[key]; taken && other != service {
		c.clashes[what] = refuse(policy.ReasonIdentity, "%s and %s both claim %s", other, service, what)
		service = "" // nobody's
	}
	all[key] = service
}

// guards closes the ports of all services defined here, granted or not. Where
// two claim one port, strict wins over permissive, and of two services neither
// gets it.
func (n *Node) guards(local *localView) []kernel.Guard {
	byPort, clashes, low, high := map[uint16]kernel.Guard{}, map[string]error{}, 0, 0
	low, high = ephemeral()
	for _, svc := range local.services {
		g := kernel.Guard{Port: svc.Port, Service: svc.Name, Permissive: svc.Permissive, Anyone: svc.listener.anyone}
		g.Serving = svc.listener.present() || int(g.Port) < low || int(g.Port) > high
		if old, taken := byPort[g.Port]; taken {
			g.Permissive, g.Anyone = g.Permissive && old.Permissive, g.Anyone && old.Anyone
			if old.Service != g.Service {
				clashes[strconv.Itoa(int(g.Port))] = fmt.Errorf("%s and %s both define it: neither is served there", old.Service, g.Service)
				g.Service = "" // nobody's: refused
			}
		}
		if g.Port != 0 {
			byPort[g.Port] = g
		}
	}
	n.problems.replace("port", clashes)
	return slices.Collect(maps.Values(byPort))
}

// ephemeral are the ports that the kernel gives to sockets which ask for none;
// where that can't be read, all of them.
func ephemeral() (low, high int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &low, &high)
	}
	if err != nil {
		return 0, 1<<16 - 1
	}
	return low, high
}
