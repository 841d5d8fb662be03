// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"tacit/node/health"
)

func addresses(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// TestAddressesLook: the node's own address counts always, and while the
// others can't be listed, the last known ones do.
func TestAddressesLook(t *testing.T) {
	broken := errors.New("netlink is gone")
	var found []netip.Addr
	var err error
	board := health.NewBoard()
	a := &Addresses{own: netip.MustParseAddr("192.0.2.1"), health: board, find: func() ([]netip.Addr, error) { return slices.Clone(found), err }}
	for _, step := range []struct {
		name    string
		found   []netip.Addr
		err     error
		changed bool
		list    []netip.Addr
	}{
		{"at first", addresses("10.0.0.1"), nil, true, addresses("10.0.0.1", "192.0.2.1")},
		{"again", addresses("10.0.0.1"), nil, false, addresses("10.0.0.1", "192.0.2.1")},
		{"one more", addresses("10.0.0.1", "10.0.0.2"), nil, true, addresses("10.0.0.1", "10.0.0.2", "192.0.2.1")},
		{"not listed", nil, broken, false, addresses("10.0.0.1", "10.0.0.2", "192.0.2.1")},
		{"one less", addresses("10.0.0.2"), nil, true, addresses("10.0.0.2", "192.0.2.1")},
		{"none", nil, nil, true, addresses("192.0.2.1")},
	} {
		found, err = step.found, step.err
		if changed := a.look(); changed != step.changed || !slices.Equal(a.List(), step.list) {
			t.Errorf("%s: changed %v, list %v; want %v, %v", step.name, changed, a.List(), step.changed, step.list)
		}
		if got := board.Get(health.Addresses, ""); !errors.Is(got, step.err) {
			t.Errorf("%s: the board has %v", step.name, got)
		}
	}
}

// TestAddressesFollowTheHost: an address that comes and goes is told once each.
func TestAddressesFollowTheHost(t *testing.T) {
	if !alone(t) {
		return
	}
	a := NewAddresses(netip.MustParseAddr("192.0.2.1"), health.NewBoard())
	first := a.List()
	if !slices.Contains(first, netip.MustParseAddr("192.0.2.1")) || len(first) < 2 {
		t.Fatalf("the host has %v", first)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan []netip.Addr, 64), make(chan error, 1)
	go func() { ended <- a.Run(ctx, func() { changes <- a.List() }) }()
	shell(t, "ip addr add 198.51.100.7/32 dev eth0")
	want := netip.MustParseAddr("198.51.100.7")
	if got := <-changes; !slices.Contains(got, want) || len(got) != len(first)+1 {
		t.Errorf("after it came: %v", got)
	}
	shell(t, "ip addr del 198.51.100.7/32 dev eth0")
	if got := <-changes; !slices.Equal(got, first) {
		t.Errorf("after it went: %v, want %v", got, first)
	}
	shell(t, "ip link set lo down; ip link set lo up") // loopback addresses don't count
	shell(t, "ip addr add 198.51.100.8/32 dev eth0")
	if got := <-changes; len(got) != len(first)+1 {
		t.Errorf("after lo went down: %v", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(changes) > 0 {
		t.Errorf("told once more, of %v", <-changes)
	}
}

// TestAddressesWhileShort: where a look had no descriptor, the next one comes soon.
func TestAddressesWhileShort(t *testing.T) {
	var fails error
	a := &Addresses{health: health.NewBoard(), find: func() ([]netip.Addr, error) { return nil, fails }}
	for _, step := range []struct {
		err  error
		want time.Duration
	}{{nil, relist}, {syscall.EMFILE, relistShort}, {errors.New("else"), relist}, {syscall.ENOMEM, relistShort}, {nil, relist}} {
		fails = step.err
		if a.look(); a.due() != step.want {
			t.Errorf("after %v the next look is due in %s, want %s", step.err, a.due(), step.want)
		}
	}
}
