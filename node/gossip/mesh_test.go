// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/identity"
)

// owner is a delegate that records what it receives.
type owner struct {
	mu      sync.Mutex
	state   []byte
	merged  []string
	refuse  error
	changes atomic.Int64
}

func (o *owner) State() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

func (o *owner) Merge(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.merged = append(o.merged, string(p))
}

func (o *owner) Admit(identity.Name, netip.AddrPort) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refuse
}

func (o *owner) Changed() { o.changes.Add(1) }

func (o *owner) count(p string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, m := range o.merged {
		if m == p {
			n++
		}
	}
	return n
}

func testConfig(name, ip string, d Delegate) Config {
	return Config{
		Name: identity.MustName(name), Bind: netip.MustParseAddr(ip),
		Key: bytes.Repeat([]byte{7}, KeySize), Label: "example.test", Delegate: d,
	}
}

func start(t *testing.T, cfg Config) *Pool {
	t.Helper()
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// within polls until ok holds and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-tick.C
	}
	return time.Since(begin)
}

func find(p *Pool, name string) Member {
	all := p.Members()
	i := slices.IndexFunc(all, func(m Member) bool { return string(m.Name) == name })
	if i < 0 {
		return Member{}
	}
	return all[i]
}

func alive(p *Pool) int {
	n := 0
	for _, m := range p.Members() {
		if m.Alive {
			n++
		}
	}
	return n
}

// mesh starts n pools, joined to the first.
func mesh(t *testing.T, n, subnet int) ([]*Pool, []*owner) {
	t.Helper()
	pools, owners := make([]*Pool, n), make([]*owner, n)
	for i := range n {
		owners[i] = &owner{}
		pools[i] = start(t, testConfig(fmt.Sprintf("n%d", i), fmt.Sprintf("127.0.%d.%d", subnet, i+1), owners[i]))
		if i == 0 {
			continue
		}
		if err := pools[i].Join(context.Background(), []string{pools[0].Addr().String()}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		within(t, 5*time.Second, "everybody is a member", func() bool { return alive(pools[i]) == n })
	}
	return pools, owners
}
