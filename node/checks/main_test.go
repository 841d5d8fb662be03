// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/redirect/netns"
)

// define parses what stands inside a service's block.
func define(t *testing.T, id, inside string) definition.Definition {
	t.Helper()
	name, _, _ := strings.Cut(id, "-")
	defs, problems := definition.Parse("web.hcl", []byte("service { name = \""+name+"\" id = \""+id+"\" port = 80\n"+inside+"\n}"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return defs[0]
}

// newManager has no cgroup; it dials to, which stands for the instance's
// listener, and counts changes.
func newManager(to string, changes *int) *Manager {
	m := &Manager{wake: make(chan struct{}, 1), conf: Config{
		Target: func(string) ([]netip.AddrPort, netns.Namespace, error) {
			at, err := netip.ParseAddrPort(to)
			return []netip.AddrPort{at}, netns.Namespace{}, err
		},
		Tag:     func(int, identity.Name) error { return nil },
		Changed: func() { *changes++ },
		Log:     slog.New(slog.DiscardHandler),
	}}
	m.try = m.run
	return m
}

// only is the single check of web.
func only(t *testing.T, m *Manager) Result {
	t.Helper()
	all := m.Results("web")
	if len(all) != 1 {
		t.Fatalf("%d results: %+v", len(all), all)
	}
	return all[0]
}

const waitLimit = 10 * time.Second

// pass lets time pass on the clock of a synctest bubble, which doesn't wait.
func pass(d time.Duration) { <-time.After(d) }
