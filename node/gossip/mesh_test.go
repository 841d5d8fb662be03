// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/gossip/wire"
)

func TestReach(t *testing.T) {
	testhost.VerifyNone(t)
	_, pools, owners := mesh(t, 4, 11)
	reach := func(payload string) time.Duration {
		pools[1].Broadcast([]byte(payload))
		return within(t, 2*time.Second, "broadcast", func() bool {
			return owners[0].count(payload) == 1 && owners[2].count(payload) == 1 && owners[3].count(payload) == 1
		})
	}
	var small, large time.Duration
	for i := range 10 {
		small = max(small, reach(fmt.Sprintf("small %d", i)))
		large = max(large, reach(fmt.Sprintf("large %d", i)+strings.Repeat("x", 100_000)))
	}
	t.Logf("worst of 10 to 3 others: small %v, 100 kB %v", small, large)
	if owners[1].count("small 0") != 0 {
		t.Error("a sender merged its own broadcast")
	}
	if owners[0].changes.Load() == 0 {
		t.Error("Changed was never called")
	}
}

// TestRetire: the others are told within a tick of gossip, and go on to see the node
// alive. A pool that starts in its place takes that back.
func TestRetire(t *testing.T) {
	testhost.VerifyNone(t)
	r, pools, _ := mesh(t, 3, 29)
	if err := pools[2].Retire(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	is := func(leaving bool) func() bool {
		return func() bool {
			return pools[0].Leaving("n2") == leaving && pools[1].Leaving("n2") == leaving && find(pools[0], "n2").Alive && find(pools[1], "n2").Alive
		}
	}
	within(t, 2*time.Second, "retirement", is(true))
	if pools[0].Leaving("n1") || pools[0].Leaving("nobody") {
		t.Error("another node leaves, too")
	}
	_ = pools[2].Close()
	if err := pools[2].Retire(time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("Retire after Close: %v", err)
	}
	r.start(t, r.config(t, "n2", "127.0.29.3", &owner{}))
	within(t, 5*time.Second, "return", is(false))
}

func TestLeaveAndDeath(t *testing.T) {
	testhost.VerifyNone(t)
	r, pools, owners := mesh(t, 4, 12)
	if err := pools[3].Leave(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	took := within(t, time.Second, "leave", func() bool { return !find(pools[0], "n3").Alive && !find(pools[1], "n3").Alive })
	t.Logf("leave seen after %v", took)
	_ = pools[3].Close()
	if err := pools[3].Leave(time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("Leave after Close: %v", err)
	}

	_ = pools[2].Close()
	took = within(t, 5*time.Second, "death", func() bool { return !find(pools[0], "n2").Alive && !find(pools[1], "n2").Alive })
	t.Logf("death seen by both after %v", took)
	if !find(pools[0], "n1").Alive || !find(pools[1], "n0").Alive {
		t.Error("a live node was declared dead")
	}

	// It comes back without knowing anybody's address: the others contact lost
	// members, and the exchange carries what it missed.
	owners[0].mu.Lock()
	owners[0].state = []byte("what n2 missed")
	owners[0].mu.Unlock()
	back := &owner{state: []byte("state of n2")}
	cfg := r.config(t, "n2", "127.0.12.3", back)
	cfg.Seeds = func() []Seed { return nil }
	again := r.start(t, cfg)
	took = within(t, 10*time.Second, "return", func() bool {
		return find(pools[0], "n2").Alive && find(pools[1], "n2").Alive && alive(again) == 3
	})
	t.Logf("return after %v", took)
	within(t, 10*time.Second, "exchange", func() bool { return back.count("what n2 missed") > 0 && owners[0].count("state of n2") > 0 })
}

func TestExchange(t *testing.T) {
	testhost.VerifyNone(t)
	r := newRoll(t)
	a, b := &owner{state: []byte("state of a")}, &owner{state: []byte("state of b")}
	pa := r.start(t, r.config(t, "a", "127.0.13.1", a))
	pa.Broadcast([]byte("missed"))
	r.start(t, r.config(t, "b", "127.0.13.2", b))
	within(t, 5*time.Second, "both states", func() bool { return a.count("state of b") > 0 && b.count("state of a") > 0 })
}

// TestSeedWithoutName: whoever is there, as after --join.
func TestSeedWithoutName(t *testing.T) {
	testhost.VerifyNone(t)
	r := newRoll(t)
	pa := r.start(t, r.config(t, "a", "127.0.18.1", &owner{}))
	cfg := r.config(t, "b", "127.0.18.2", &owner{})
	cfg.Seeds = func() []Seed { return []Seed{{"", "127.0.18.9:1"}, {"", pa.Addr().String()}} }
	pb := r.start(t, cfg)
	within(t, 5*time.Second, "members", func() bool { return alive(pa) == 2 && alive(pb) == 2 })
}

func TestJoinRefused(t *testing.T) {
	testhost.VerifyNone(t)
	r, other := newRoll(t), newRoll(t)
	host := r.start(t, r.config(t, "host", "127.0.14.1", &owner{}))
	at := host.Addr()
	tests := []struct {
		name   string
		config func(name, ip string) Config
		to     identity.Name
		at     netip.AddrPort
		want   string
	}{
		{"another mesh", func(name, ip string) Config {
			cfg := other.config(t, name, ip, &owner{})
			cfg.Peer = func(n identity.Name) (wire.Peer, bool) { return r.peer("x")(n) }
			return cfg
		}, "host", at, "unknown authority"},
		{"no member", func(name, ip string) Config {
			cfg := r.config(t, name, ip, &owner{})
			r.revoke(cfg.Name)
			return cfg
		}, "host", at, "it ends the connection; is this node revoked, or isn't it known there yet?"},
		{"another node there", func(name, ip string) Config { return r.config(t, name, ip, &owner{}) }, "elsewhere", at, "answers there, not elsewhere"},
		{"nobody there", func(name, ip string) Config { return r.config(t, name, ip, &owner{}) }, "host", netip.MustParseAddrPort("127.0.14.9:9"), "connection refused"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.config(fmt.Sprintf("guest%d", i), fmt.Sprintf("127.0.14.%d", i+2))
			cfg.Seeds = func() []Seed { return nil }
			p, err := Start(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			err = p.exchange(t.Context(), tt.to, tt.at)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			t.Log(err)
			if alive(host) != 1 || alive(p) != 1 {
				t.Errorf("members: host %d, guest %d", alive(host), alive(p))
			}
		})
	}
}

func TestConfig(t *testing.T) {
	r := newRoll(t)
	tests := map[string]func(*Config){
		"no name":     func(c *Config) { c.Name = "" },
		"no key":      func(c *Config) { c.Key = nil },
		"unspecified": func(c *Config) { c.Bind = netip.IPv4Unspecified() },
		"no delegate": func(c *Config) { c.Delegate = nil },
		"not ours":    func(c *Config) { c.Bind = netip.MustParseAddr("192.0.2.1") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			testhost.VerifyNone(t)
			cfg := r.config(t, "a", "127.0.16.1", &owner{})
			change(&cfg)
			if p, err := Start(cfg); err == nil {
				_ = p.Close()
				t.Error("Start accepted it")
			}
		})
	}
}

func TestIPv6(t *testing.T) {
	testhost.VerifyNone(t)
	r := newRoll(t)
	a, b := r.start(t, r.config(t, "a", "::1", &owner{})), r.start(t, r.config(t, "b", "::1", &owner{}))
	within(t, 5*time.Second, "members", func() bool { return alive(a) == 2 && alive(b) == 2 })
}
