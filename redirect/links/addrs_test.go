// SPDX-License-Identifier: Apache-2.0

package links_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/redirect/links"
)

func TestAddrs(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	host.Sh(t, "ip addr add 10.7.0.9/32 dev lo; ip addr add 10.7.0.2/24 dev eth0; ip -6 addr add fd00:7::1/64 dev eth0 nodad")
	v4, v6 := netip.MustParseAddr("10.7.0.2"), netip.MustParseAddr("fd00:7::1")
	for _, tt := range []struct {
		what string
		read func() ([]netip.Addr, error)
		want []netip.Addr
	}{
		{"local", links.LocalAddrs, []netip.Addr{v4, netip.MustParseAddr("10.7.0.9"), host.Addr, v6, host.Addr6}},
		{"siblings", func() ([]netip.Addr, error) { return links.Siblings(host.Addr) }, []netip.Addr{v4, v6, host.Addr6}},
		{"siblings of a stranger", func() ([]netip.Addr, error) { return links.Siblings(netip.MustParseAddr("192.0.2.1")) }, nil},
	} {
		var got []netip.Addr
		testhost.Must(t, host.Do(func() (err error) { got, err = tt.read(); return err }))
		got = slices.DeleteFunc(got, netip.Addr.IsLinkLocalUnicast)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}

// TestWatchAddrs: a change is sent, and the subscription's socket and goroutines end with the context.
func TestWatchAddrs(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	host.Sh(t, "true") // opens what a host keeps open for its commands
	testhost.VerifyNone(t)
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- host.Do(func() error { return links.WatchAddrs(ctx, changed) }) }()
	expect := func(when string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(3 * time.Second):
			t.Fatalf("nothing was sent %s", when)
		}
	}
	expect("at the start")
	for _, change := range []string{"add", "del"} {
		host.Sh(t, "ip addr "+change+" 10.8.0.1/32 dev lo")
		expect("after ip addr " + change)
	}
	cancel()
	testhost.Must(t, <-ended)
}
