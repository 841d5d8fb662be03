// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelHost is the network namespace of the calling thread.
type kernelHost struct{}

// kinds are the kernel's numbers of route types.
var kinds = map[routeKind]int{kindLocal: unix.RTN_LOCAL, kindBlackhole: unix.RTN_BLACKHOLE}

func (kernelHost) routes() ([]route, error) {
	// A filter for table 0 means every table.
	found, err := dump(func() ([]netlink.Route, error) {
		filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_UNSPEC}
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, err
	}
	var out []route
	for _, r := range found {
		out = append(out, fromNetlink(r))
	}
	return out, nil
}

func (kernelHost) addRoute(r route) error {
	n, err := r.toNetlink()
	if err != nil {
		return err
	}
	return explain(netlink.RouteAdd(n))
}

func (kernelHost) delRoute(r route) error {
	n, err := r.toNetlink()
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(n); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// toNetlink needs the index of the loopback interface.
func (r route) toNetlink() (*netlink.Route, error) {
	n := &netlink.Route{
		Type: kinds[r.kind], Table: r.table, Priority: r.metric, Protocol: routeProtocol, Family: familyNumber(r.v6()),
		Dst: &net.IPNet{IP: r.dst.Addr().AsSlice(), Mask: net.CIDRMask(r.dst.Bits(), r.dst.Addr().BitLen())},
	}
	if r.src.IsValid() {
		n.Src = r.src.AsSlice()
	}
	if r.kind != kindLocal {
		return n, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	n.LinkIndex = lo.Attrs().Index
	if !r.v6() {
		n.Scope = netlink.SCOPE_HOST
	}
	return n, nil
}

func fromNetlink(n netlink.Route) route {
	r := route{table: n.Table, metric: n.Priority, kind: routeKind(fmt.Sprintf("type-%d", n.Type))}
	for kind, number := range kinds {
		if number == n.Type {
			r.kind = kind
		}
	}
	// A default route is reported without a destination, or, for IPv4, with one in IPv6's form.
	r.dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if n.Family == netlink.FAMILY_V6 {
		r.dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if n.Dst != nil {
		if addr, ok := netip.AddrFromSlice(n.Dst.IP); ok {
			bits, _ := n.Dst.Mask.Size()
			r.dst = netip.PrefixFrom(addr.Unmap(), bits)
		}
	}
	if src, ok := netip.AddrFromSlice(n.Src); ok {
		r.src = src.Unmap()
	}
	return r
}

func (kernelHost) rules() ([]rule, error) {
	found, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var out []rule
	for _, n := range found {
		if n.Protocol != routeProtocol {
			continue
		}
		r := rule{v6: n.Family == netlink.FAMILY_V6, priority: n.Priority, mark: n.Mark, table: n.Table}
		if n.Mask != nil {
			r.mask = *n.Mask
		}
		if n.Src != nil && n.Sport != nil {
			ones, _ := n.Src.Mask.Size()
			src, _ := netip.AddrFromSlice(n.Src.IP)
			r.src, r.sport = netip.PrefixFrom(src.Unmap(), ones), n.Sport.Start
		}
		out = append(out, r)
	}
	return out, nil
}

func (kernelHost) addRule(r rule) error { return explain(netlink.RuleAdd(r.toNetlink())) }

func (kernelHost) delRule(r rule) error {
	if err := netlink.RuleDel(r.toNetlink()); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

func (r rule) toNetlink() *netlink.Rule {
	n := netlink.NewRule()
	n.Family, n.Priority, n.Table, n.Protocol = familyNumber(r.v6), r.priority, r.table, routeProtocol
	if !r.src.IsValid() {
		n.Mark, n.Mask = r.mark, &r.mask
		return n
	}
	n.Src = &net.IPNet{IP: r.src.Addr().AsSlice(), Mask: net.CIDRMask(r.src.Bits(), r.src.Addr().BitLen())}
	n.IPProto, n.Sport = unix.IPPROTO_TCP, netlink.NewRulePortRange(r.sport, r.sport)
	return n
}

// explain adds what to do to the usual errors of adding a route or a rule.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another program has added the same one; remove it first: %w", err)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("the loopback interface is down; run ip link set lo up: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("needs CAP_NET_ADMIN: %w", err)
	default:
		return err
	}
}

func familyNumber(v6 bool) int {
	if v6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// dump repeats a read that was interrupted because the list changed meanwhile, up to four times.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	for range 4 {
		if out, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return read()
}
