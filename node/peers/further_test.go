// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"tacit/identity"
	"tacit/node/health"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// TestAddresses follows a node's further addresses as they come and go.
func TestAddresses(t *testing.T) {
	m := newMesh(t)
	n1, n2 := m.start(t, "n1", "127.0.0.1"), m.certify(t, "n2")
	taken, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), m.port).String()) // another program
	must(t, err)
	defer taken.Close()
	unknown := errors.New("netlink is down")
	for _, step := range []struct {
		name string
		now  []netip.Addr
		err  error
		want []netip.Addr
	}{
		{"one", addrs("127.0.0.2"), nil, addrs("127.0.0.2")},
		{"one more, and one that is taken", addrs("127.0.0.2", "127.0.0.9", "127.0.0.3"), nil, addrs("127.0.0.2", "127.0.0.3")},
		{"unknown", nil, unknown, addrs("127.0.0.2", "127.0.0.3")},
		{"one goes", addrs("127.0.0.3"), nil, addrs("127.0.0.3")},
		{"one that this host doesn't have", addrs("127.0.0.3", "192.0.2.1"), nil, addrs("127.0.0.3")},
		{"it comes back", addrs("127.0.0.3", "127.0.0.2"), nil, addrs("127.0.0.2", "127.0.0.3")},
		{"all go", nil, nil, nil},
	} {
		n1.further.siblings = func(netip.Addr) ([]netip.Addr, error) { return step.now, step.err }
		if got := n1.Addresses(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
		if err := n1.board.Get(health.LanePorts, ""); !errors.Is(err, step.err) {
			t.Errorf("%s: problem %v", step.name, err)
		}
		for _, addr := range addrs("127.0.0.2", "127.0.0.3") {
			if _, err := n1.call(t, n2, identity.ALPNHere, addr); (err == nil) != slices.Contains(step.want, addr) {
				t.Errorf("%s: a call to %s: %v", step.name, addr, err)
			}
		}
	}
}

// TestAddressesLimit: a node announces no more than a record may have.
func TestAddressesLimit(t *testing.T) {
	n1 := newMesh(t).start(t, "n1", "127.0.0.1")
	n1.further.siblings = func(netip.Addr) (all []netip.Addr, err error) {
		for i := range maxFurther + 8 {
			all = append(all, netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}))
		}
		return all, nil
	}
	if got := n1.Addresses(); len(got) != maxFurther {
		t.Errorf("%d addresses, want %d", len(got), maxFurther)
	}
}
