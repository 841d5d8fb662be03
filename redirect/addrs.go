// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// LocalAddrs returns this host's addresses, sorted, each once, without zones and without loopback ones.
func LocalAddrs() ([]netip.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("read this host's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.Unmap().IsLoopback() {
			out = append(out, addr.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// Siblings returns the other global addresses of the interface that has addr, sorted: the addresses at which the same
// network reaches this host. Link-local ones are left out, since they mean another host on another link.
func Siblings(addr netip.Addr) ([]netip.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("read this host's addresses: %w", err)
	}
	byLink, own := map[int][]netip.Addr{}, 0
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && ip == addr {
			own = a.LinkIndex
		} else if ok && ip.IsGlobalUnicast() {
			byLink[a.LinkIndex] = append(byLink[a.LinkIndex], ip)
		}
	}
	slices.SortFunc(byLink[own], netip.Addr.Compare)
	return slices.Compact(byLink[own]), nil
}

// WatchAddrs sends on changed when the result of [LocalAddrs] may have changed, and once at the start, when the
// subscription is in place. It never blocks on changed, so give that room for one. It returns nil when ctx ends, and an
// error when the kernel ends the subscription.
func WatchAddrs(ctx context.Context, changed chan<- struct{}) error {
	for {
		updates, err := watchOnce(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		// A subscription that has worked ends when the socket's buffer overflows: subscribe again, and send once.
		if updates == 0 {
			return fmt.Errorf("watch this host's addresses: %w", err)
		}
	}
}

// watchOnce runs one subscription and counts its updates.
func watchOnce(ctx context.Context, changed chan<- struct{}) (updates int, err error) {
	failed := make(chan error, 1)
	channel := make(chan netlink.AddrUpdate)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := netlink.AddrSubscribeOptions{ErrorCallback: func(err error) {
		select {
		case failed <- err:
		default:
		}
	}}
	if err := netlink.AddrSubscribeWithOptions(channel, ctx.Done(), options); err != nil {
		return 0, err
	}
	notify(changed)
	for range channel { // closed when the subscription ends, for which ctx is enough
		updates++
		notify(changed)
	}
	select {
	case err = <-failed:
	default:
		err = errors.New("the subscription ended")
	}
	return updates, err
}

// notify sends unless one send is waiting to be received.
func notify(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
