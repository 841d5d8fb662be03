// SPDX-License-Identifier: Apache-2.0

package seen

import (
	"net/netip"
	"testing"
)

func TestNamed(t *testing.T) {
	for virtual, want := range map[string]string{
		"240.64.0.3": "127.64.0.3", "240.79.255.254": "127.79.255.254", "10.0.0.1": "127.64.0.1", "10.255.1.2": "127.127.1.2",
	} {
		if got := named(netip.MustParseAddr(virtual)); got.String() != want || !got.IsLoopback() {
			t.Errorf("%s: %s, want %s", virtual, got, want)
		}
	}
}
