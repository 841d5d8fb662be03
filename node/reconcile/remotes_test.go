// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacit/policy/kernel"
)

type settings map[string][]byte

func (s settings) Get(name string) ([]byte, error) { return s[name], nil }

func (s settings) Set(name string, value []byte) error {
	s[name] = value
	return nil
}

// TestKeptRemotes: what was kept last is read after a restart; state that
// can't be read is an error, not an open host.
func TestKeptRemotes(t *testing.T) {
	state := settings{}
	r := Remotes{state}
	if list, err := r.Kept(); list != nil || err != nil {
		t.Errorf("at first: %v, %v", list, err)
	}
	db := kernel.Remote{Addr: netip.MustParseAddrPort("10.0.0.2:5432"), Service: "db"}
	web := kernel.Remote{Addr: netip.MustParseAddrPort("[2001:db8::3]:80"), Service: "web"}
	for _, want := range [][]kernel.Remote{{db, web}, {db, web}, {web}, nil} {
		if err := r.Keep(want); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Kept(); err != nil || !slices.Equal(got, want) {
			t.Errorf("kept %v, %v; want %v", got, err, want)
		}
	}
	state[setRemotes] = []byte("{")
	if list, err := r.Kept(); err == nil || !strings.HasPrefix(err.Error(), "state: remotes: ") {
		t.Errorf("unreadable: %v, %v", list, err)
	}
}
