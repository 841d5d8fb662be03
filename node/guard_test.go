// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/policy/kernel"
)

// TestKeptRemotes: what was kept last is read after a restart; state that
// can't be read is an error, not an open host.
func TestKeptRemotes(t *testing.T) {
	n := newNode(t)
	if list, err := keptRemotes(n.store); list != nil || err != nil {
		t.Errorf("at first: %v, %v", list, err)
	}
	db := kernel.Remote{Addr: netip.MustParseAddrPort("10.0.0.2:5432"), Service: "db"}
	web := kernel.Remote{Addr: netip.MustParseAddrPort("[2001:db8::3]:80"), Service: "web"}
	for _, want := range [][]kernel.Remote{{db, web}, {db, web}, {web}, nil} {
		if err := keepRemotes(n.store, want); err != nil {
			t.Fatal(err)
		}
		if got, err := keptRemotes(n.store); err != nil || !slices.Equal(got, want) {
			t.Errorf("kept %v, %v; want %v", got, err, want)
		}
	}
	if err := n.store.Set(setRemotes, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if list, err := keptRemotes(n.store); err == nil || !strings.HasPrefix(err.Error(), "state: remotes: ") {
		t.Errorf("unreadable: %v, %v", list, err)
	}
}
