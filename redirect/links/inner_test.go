// SPDX-License-Identifier: Apache-2.0

package links_test

import (
	"net/netip"
	"slices"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect/links"
)

// TestReached: a container's own addresses, also behind a bridge, and not those that it
// gives itself out of other networks.
func TestReached(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	box, other := host.Container(t, "box"), host.Container(t, "other")
	stolen := []string{host.Addr.String(), other.Addr.String(), "203.0.113.7", "127.0.0.9"}
	host.Sh(t, "ip route add 203.0.113.0/24 via "+other.Addr.String())
	all := []netip.Addr{box.Addr}
	for _, a := range stolen {
		all = append(all, netip.MustParseAddr(a))
	}
	check := func(when string) {
		t.Helper()
		var got []netip.Addr
		testhost.Must(t, host.Do(func() (err error) { got, err = links.Reached(box.Namespace(), all); return err }))
		if !slices.Equal(got, []netip.Addr{box.Addr}) {
			t.Errorf("%s: %s, want %s alone", when, got, box.Addr)
		}
	}
	check("routed")
	gateway := host.Sh(t, "ip -4 -o addr show dev box1 | awk '{print $4}'")
	host.Sh(t, "ip link add docker0 type bridge; ip link set docker0 up; ip addr flush dev box1; ip addr add "+gateway+" dev docker0; ip link set box1 master docker0")
	check("behind a bridge")
}
