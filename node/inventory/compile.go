// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/policy"
	"tacit/policy/kernel"
)

// Workloads says who is which service: those services that this node may run.
// What two services claim belongs to neither, and is a problem; so is what
// can't be looked up. Problems are by cgroup, namespace, interface or uid.
func (v *View) Workloads(granted func(identity.Name) bool) (kernel.Workloads, map[string]error) {
	c := claims{problems: map[string]error{}}
	cgroups, namespaces := map[uint64]identity.Name{}, map[uint64]identity.Name{}
	users, interfaces := map[uint32]identity.Name{}, map[uint32]identity.Name{}
	for _, s := range v.Services {
		if !granted(s.Name) {
			continue
		}
		maps.Copy(c.problems, s.Unfound)
		for _, cgroup := range s.Cgroups {
			claim(c, cgroups, cgroup.ID, s.Name, cgroup.Path)
		}
		if s.Namespace != 0 {
			claim(c, namespaces, s.Namespace, s.Name, "network namespace "+s.Workload.NetNS)
		}
		for _, index := range s.Interfaces {
			claim(c, interfaces, index, s.Name, "interface "+cmp.Or(s.Workload.Interface, strconv.Itoa(int(index))))
		}
		if uid := s.Workload.UID; uid != nil {
			claim(c, users, *uid, s.Name, fmt.Sprintf("uid %d", *uid))
		}
	}
	return kernel.Workloads{Cgroups: owned(cgroups), Namespaces: owned(namespaces), Users: owned(users), Interfaces: owned(interfaces)}, c.problems
}

type claims struct{ problems map[string]error }

// claim gives key to service; to nobody (""), where another service has it.
func claim[K comparable](c claims, all map[K]identity.Name, key K, service identity.Name, what string) {
	if other, taken := all[key]; taken && other != service {
		c.problems[what] = &policy.Refusal{Reason: policy.ReasonIdentity, Detail: fmt.Sprintf("%s and %s both claim %s", other, service, what)}
		service = ""
	}
	all[key] = service
}

func owned[K comparable](all map[K]identity.Name) map[K]identity.Name {
	maps.DeleteFunc(all, func(_ K, service identity.Name) bool { return service == "" })
	return all
}

// Guards closes the ports of all services defined here, granted or not, by
// port; not those of instances that listen in another network namespace: their
// number may belong to somebody else on the host. low and high are the ephemeral ports, from EphemeralPorts. Where two
// instances define one port, strict wins over permissive; where two services
// do, neither gets it, and the port is among the problems, by number.
func (v *View) Guards(low, high int) ([]kernel.Guard, map[string]error) {
	byPort, problems := make(map[uint16]kernel.Guard, len(v.Services)), map[string]error{}
	for _, s := range v.Services {
		if s.LocalPort() == 0 || s.Place != "" {
			continue
		}
		g := s.guard(low, high)
		if old, taken := byPort[s.Port]; taken {
			g = stricter(g, old)
			if old.Service != g.Service {
				problems[strconv.Itoa(int(g.Port))] = fmt.Errorf("%s and %s both define it: neither is served there", old.Service, g.Service)
				g.Service = "" // nobody's: refused
			}
		}
		byPort[s.Port] = g
	}
	byNumber := func(a, b kernel.Guard) int { return cmp.Compare(a.Port, b.Port) }
	return slices.SortedFunc(maps.Values(byPort), byNumber), problems
}

// Answers are the ports of programs here that see their callers' own addresses.
func (v *View) Answers() []uint16 {
	return definition.Answers(func(yield func(definition.Definition) bool) {
		for _, s := range v.Services {
			if s.Place == "" && !yield(s.Definition) { // in another network namespace the service's address is shown
				return
			}
		}
	})
}

func (s Service) guard(low, high int) kernel.Guard {
	return kernel.Guard{Port: s.Port, Service: s.Name, Permissive: s.Permissive, Anyone: s.Listener.Anyone,
		Serving:  s.Listener.Present() || int(s.Port) < low || int(s.Port) > high,
		Loopback: s.ClientAddress == definition.ClientLoopback, Carried: s.ClientAddress == definition.ClientProxyProtocol}
}

// stricter is the guard that two instances with one port have.
func stricter(g, old kernel.Guard) kernel.Guard {
	g.Loopback, g.Carried = g.Loopback && old.Loopback, g.Carried || old.Carried
	g.Permissive, g.Anyone = g.Permissive && old.Permissive, g.Anyone && old.Anyone
	g.Serving = g.Serving || old.Serving
	return g
}

// InnerGuards closes the ports of all services defined here in every other network
// namespace, where the kernel knows them by their workloads. They don't wait until
// an instance is seen in one.
func (v *View) InnerGuards(low, high int) []kernel.Guard {
	type key struct {
		service identity.Name
		port    uint16
	}
	all := map[key]kernel.Guard{}
	for _, s := range v.Services {
		if !enclosable(s.Definition) {
			continue
		}
		k, g := key{s.Name, s.Port}, s.guard(low, high)
		if old, taken := all[k]; taken {
			g = stricter(g, old)
		}
		all[k] = g
	}
	return slices.SortedFunc(maps.Values(all), func(a, b kernel.Guard) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
	})
}

// InnerAddrs are the real addresses of the instances that listen in other network
// namespaces of this node. What two services claim belongs to neither.
func (v *View) InnerAddrs() []kernel.Remote {
	c, all := claims{problems: map[string]error{}}, map[netip.AddrPort]identity.Name{}
	for _, s := range v.Services {
		for _, a := range s.Addrs {
			claim(c, all, netip.AddrPortFrom(a, s.Port), s.Name, a.String())
		}
	}
	var out []kernel.Remote
	for at, service := range owned(all) {
		out = append(out, kernel.Remote{Addr: at, Service: service})
	}
	slices.SortFunc(out, func(a, b kernel.Remote) int { return a.Addr.Compare(b.Addr) })
	return out
}

// EphemeralPorts are those that the kernel gives to sockets which ask for none
// (ip_local_port_range, ip(7)); where that can't be read, all of them.
func EphemeralPorts() (low, high int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &low, &high)
	}
	if err != nil {
		return 0, 1<<16 - 1
	}
	return low, high
}
