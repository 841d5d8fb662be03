// SPDX-License-Identifier: Apache-2.0

// Package links reads the network interfaces and addresses of this host: which addresses it has and when they change, which
// interface leads to a guest, and on which interface a connection arrived.
//
// It must not change an interface, an address or a route, and must not know what is captured. Everything is read in the
// network namespace of the calling thread.
package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
)

// LocalAddrs returns this host's addresses, sorted, each once, without zones and without loopback ones.
func LocalAddrs() ([]netip.Addr, error) {
	list, err := readAddrs()
	if err != nil {
		return nil, err
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
	list, err := readAddrs()
	if err != nil {
		return nil, err
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

func readAddrs() ([]netlink.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("read this host's addresses: %w", err)
	}
	return list, nil
}

// HasIPv6 reports whether this host's kernel has IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// Loopbacks are 127.0.0.1 and ::1.
func Loopbacks() [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
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

// dump repeats a read that was interrupted because the list changed meanwhile, up to four times.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	for range 4 {
		if out, err := read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return read()
}
