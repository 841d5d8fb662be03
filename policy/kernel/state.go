// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// State is all that the maps shall hold.
type State struct {
	Table     *policy.Table
	Own       []policy.Intention // the node's own rules, in no table; the same ones always
	Workloads Workloads
	Endpoints []Endpoint   // what VIRTUAL:port reaches
	Guards    []Guard      // service ports of this node
	Remotes   []Remote     // real addresses of instances elsewhere
	Upstreams []Upstream   // explicit upstreams
	Locals    []netip.Addr // this node's own addresses, besides loopback
	Exempt    Exempt
	// ExemptPeers are the remote ends of plain connections that outlive the guard of their port.
	ExemptPeers []netip.AddrPort
	Domains     []string // no query leaves the host for them and what is below ...
	Hosts       []string // ... nor for these very names
}

// Workloads say who is which service, in order of precedence.
type Workloads struct {
	Cgroups    map[uint64]identity.Name // by id
	Namespaces map[uint64]identity.Name // network namespaces, by cookie
	Users      map[uint32]identity.Name // by uid
	Interfaces map[uint32]identity.Name // by index: what comes in by them, seen by no hook
}

// Exempt is who and what is left alone.
type Exempt struct {
	Cgroups []uint64 // ids
	Users   []uint32 // uids
	Ports   []uint16 // of other hosts
	Nets    []netip.Prefix
}

func (e Exempt) some() bool { return len(e.Cgroups)+len(e.Users)+len(e.Ports)+len(e.Nets) > 0 }

// Endpoint is one port of a service.
type Endpoint struct {
	Service identity.Name
	Port    uint16
	Local   netip.AddrPort // zero: no instance here
	Remote  bool           // some instance is elsewhere
	Anyone  bool           // whose socket listens at Local isn't looked at
}

// Guard is a port of this node that belongs to a service.
type Guard struct {
	Port       uint16
	Service    identity.Name // "": nobody's, refused
	Permissive bool          // plain connections are let in, and counted
	Anyone     bool          // whose socket listens isn't looked at, nor who binds the port
	Serving    bool          // every connection with that port was accepted on it
}

// Remote is an instance's real address.
type Remote struct {
	Addr    netip.AddrPort
	Service identity.Name
}

// Upstream lets a workload call a loopback address for a service.
type Upstream struct {
	Service     identity.Name
	Bind        netip.AddrPort
	Destination identity.Name
	Port        uint16 // of the destination
}

// contents are a State in numbers.
type contents struct {
	workloads   map[uint64]uint32
	namespaces  map[uint64]uint32
	users       map[uint32]uint32
	interfaces  map[uint32]uint32
	intentions  map[bpf.Pair]bool
	ports       map[bpf.PortKey]bpf.Port
	guards      map[uint16]bpf.Guard
	remotes     map[netip.AddrPort]uint32
	upstreams   map[bpf.UpstreamKey]bpf.Upstream
	locals      map[netip.Addr]uint32
	exempt      map[uint16]uint32
	nets        map[netip.Prefix]uint32
	exemptPeers map[netip.AddrPort]uint32
	names       map[string]uint32
}

// compile gives names their numbers. A name without a number is left out,
// which closes it: nothing reaches number 0.
func (k *Kernel) compile(s State) (c contents, err error) {
	c = contents{
		workloads: numbered(k, s.Workloads.Cgroups, s.Exempt.Cgroups), namespaces: numbered(k, s.Workloads.Namespaces, nil),
		users: numbered(k, s.Workloads.Users, s.Exempt.Users), interfaces: numbered(k, s.Workloads.Interfaces, nil), ports: k.ports(s.Endpoints), guards: map[uint16]bpf.Guard{},
		remotes: map[netip.AddrPort]uint32{}, upstreams: map[bpf.UpstreamKey]bpf.Upstream{}, locals: set(s.Locals, netip.Addr.Unmap),
		exempt: set(s.Exempt.Ports, same), nets: set(s.Exempt.Nets, netip.Prefix.Masked), exemptPeers: set(s.ExemptPeers, same), names: names(s),
	}
	if k.table != s.Table {
		c.intentions, err = k.intentions(append(s.Table.List(), s.Own...))
	}
	number := k.conf.Numbers.Number
	for _, g := range s.Guards {
		guard := bpf.Guard{Permissive: g.Permissive, Anyone: g.Anyone, Serving: g.Serving} // number 0: refused to everybody
		if g.Service != "" {
			guard.Service = number(g.Service)
		}
		c.guards[g.Port] = guard
	}
	for _, r := range s.Remotes {
		if n := number(r.Service); n != 0 {
			c.remotes[r.Addr] = n
		}
	}
	for _, u := range s.Upstreams {
		if src, dst := number(u.Service), number(u.Destination); src != 0 && dst != 0 {
			for _, at := range binds(u.Bind) {
				c.upstreams[bpf.UpstreamKey{Service: src, Bind: at}] = bpf.Upstream{Destination: dst, Port: u.Port}
			}
		}
	}
	return c, err
}

// numbered gives names their numbers. Who is left alone and a workload, too, is
// a workload.
func numbered[K comparable](k *Kernel, workloads map[K]identity.Name, exempt []K) map[K]uint32 {
	out := map[K]uint32{}
	for _, id := range exempt {
		out[id] = bpf.Exempt
	}
	for id, name := range workloads {
		if n := k.conf.Numbers.Number(name); n != 0 {
			out[id] = n
		} else {
			delete(out, id)
		}
	}
	return out
}

func same[T any](v T) T { return v }

func set[T, K comparable](list []T, key func(T) K) map[K]uint32 {
	out := map[K]uint32{}
	for _, v := range list {
		out[key(v)] = 1
	}
	return out
}

func names(s State) map[string]uint32 {
	out := map[string]uint32{}
	for _, name := range s.Hosts {
		out[name] = bpf.NameLength(name)
	}
	for _, name := range s.Domains {
		out[name] = 0
	}
	return out
}

// binds are the addresses by which a program may call an upstream: localhost is
// both 127.0.0.1 and ::1.
func binds(at netip.AddrPort) []netip.AddrPort {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if a := at.Addr().Unmap(); a == v4 || a == v6 || a.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(v4, at.Port()), netip.AddrPortFrom(v6, at.Port())}
	}
	return []netip.AddrPort{netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
}

// ErrNoNumber: a name has no number, so a rule about it isn't in the maps. The
// service itself is nobody meanwhile; it is tried again with the next Apply.
var ErrNoNumber = errors.New("no number can be given")

func (k *Kernel) intentions(list []policy.Intention) (map[bpf.Pair]bool, error) {
	out := map[bpf.Pair]bool{}
	var err error
	for _, i := range list {
		src, dst := k.endpoint(i.Source), k.endpoint(i.Destination)
		if src != 0 && dst != 0 {
			out[bpf.Pair{Source: src, Destination: dst}] = i.Action == policy.Allow
		} else if err == nil {
			err = fmt.Errorf("intention %s -> %s: %w", i.Source, i.Destination, ErrNoNumber)
		}
	}
	return out, err
}

func (k *Kernel) endpoint(name identity.Name) uint32 {
	if name == policy.Any {
		return bpf.Any
	}
	return k.conf.Numbers.Number(name)
}

// ports adds to what is registered the mark that a service is known (port 0),
// and 80 and 443 for a service with one port, where they aren't its own.
func (k *Kernel) ports(list []Endpoint) map[bpf.PortKey]bpf.Port {
	out := map[bpf.PortKey]bpf.Port{}
	byService := map[uint32][]Endpoint{}
	for _, e := range list {
		n := k.conf.Numbers.Number(e.Service)
		if n == 0 {
			continue
		}
		byService[n] = append(byService[n], e)
		out[bpf.PortKey{Service: n}] = bpf.Port{}
		out[bpf.PortKey{Service: n, Port: e.Port}] = bpf.Port{Local: e.Local, Remote: e.Remote, Anyone: e.Anyone}
	}
	for n, own := range byService {
		if len(own) != 1 {
			continue
		}
		for _, port := range []uint16{80, 443} {
			out[bpf.PortKey{Service: n, Port: port}] = bpf.Port{Local: own[0].Local, Remote: own[0].Remote, Anyone: own[0].Anyone}
		}
	}
	return out
}

// Virtual4 is the virtual IPv4 address of service number n: base plus number.
// It is invalid when the range has no such address.
func Virtual4(r netip.Prefix, n uint32) netip.Addr {
	if n == 0 || n >= 1<<(32-r.Bits()) {
		return netip.Addr{}
	}
	b := r.Masked().Addr().As4()
	putNumber(b[:], n)
	return netip.AddrFrom4(b)
}

// Virtual6 is the virtual IPv6 address: the number in the last 32 bits.
func Virtual6(r netip.Prefix, n uint32) netip.Addr {
	if n == 0 {
		return netip.Addr{}
	}
	b := r.Masked().Addr().As16()
	putNumber(b[12:], n)
	return netip.AddrFrom16(b)
}

func putNumber(b []byte, n uint32) {
	for i := range 4 {
		b[3-i] |= byte(n >> (8 * i))
	}
}

// NumberOf returns the number of a virtual address.
func (k *Kernel) NumberOf(a netip.Addr) (uint32, bool) {
	return NumberOf(k.conf.Range4, k.conf.Range6, a)
}

// NumberOf returns the number of a virtual address of either range.
func NumberOf(range4, range6 netip.Prefix, a netip.Addr) (uint32, bool) {
	a = a.Unmap()
	r, virtual := range6, Virtual6
	if a.Is4() {
		r, virtual = range4, Virtual4
	}
	if !r.Contains(a) {
		return 0, false
	}
	var n uint32
	b, base := a.AsSlice(), r.Masked().Addr().AsSlice()
	for i := len(b) - 4; i < len(b); i++ {
		n = n<<8 | uint32(b[i]^base[i])
	}
	return n, n != 0 && virtual(r, n) == a
}
