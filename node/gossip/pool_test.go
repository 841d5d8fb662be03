// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

func TestReach(t *testing.T) {
	testhost.VerifyNone(t)
	pools, owners := mesh(t, 4, 11)
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

func TestLeaveAndDeath(t *testing.T) {
	testhost.VerifyNone(t)
	pools, owners := mesh(t, 4, 12)
	if err := pools[3].Leave(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	took := within(t, time.Second, "leave", func() bool { return !find(pools[0], "n3").Alive && !find(pools[1], "n3").Alive })
	t.Logf("leave seen after %v", took)
	_ = pools[3].Close()
	if err := pools[3].Leave(time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("Leave after Close: %v", err)
	}

	gone := pools[2].Addr()
	_ = pools[2].Close()
	took = within(t, 5*time.Second, "death", func() bool { return !find(pools[0], "n2").Alive && !find(pools[1], "n2").Alive })
	t.Logf("death seen by both after %v", took)
	if !find(pools[0], "n1").Alive || !find(pools[1], "n0").Alive {
		t.Error("a live node was declared dead")
	}

	// It comes back without a join: the others contact dead members, and the
	// push/pull carries what it missed.
	owners[0].mu.Lock()
	owners[0].state = []byte("what n2 missed")
	owners[0].mu.Unlock()
	cfg, back := testConfig("n2", gone.Addr().String(), &owner{}), &owner{state: []byte("state of n2")}
	cfg.Port, cfg.Delegate = gone.Port(), back
	again := start(t, cfg)
	took = within(t, 8*time.Second, "return", func() bool {
		return find(pools[0], "n2").Alive && find(pools[1], "n2").Alive && alive(again) == 3
	})
	t.Logf("return without Join after %v", took)
	within(t, 20*time.Second, "push/pull", func() bool {
		return owners[0].count("state of n2")+owners[1].count("state of n2") > 0
	})
}

func TestPushPull(t *testing.T) {
	testhost.VerifyNone(t)
	a, b := &owner{state: []byte("state of a")}, &owner{state: []byte("state of b")}
	pa := start(t, testConfig("a", "127.0.13.1", a))
	pa.Broadcast([]byte("missed"))
	pb := start(t, testConfig("b", "127.0.13.2", b))
	if err := pb.Join(context.Background(), []string{"127.0.13.9:1", pa.Addr().String()}); err != nil {
		t.Fatalf("one address of two answers: %v", err)
	}
	within(t, 2*time.Second, "both states", func() bool { return a.count("state of b") == 1 && b.count("state of a") == 1 })
}

func TestJoinRefused(t *testing.T) {
	testhost.VerifyNone(t)
	hostess := &owner{}
	host := start(t, testConfig("host", "127.0.14.1", hostess))
	at := host.Addr().String()
	tests := []struct {
		name   string
		change func(*Config)
		addrs  []string
		want   error
	}{
		{"wrong key", func(c *Config) { c.Key = bytes.Repeat([]byte{8}, KeySize) }, []string{at}, ErrWrongKey},
		{"wrong label", func(c *Config) { c.Label = "other.test" }, []string{at}, ErrNotAdmitted},
		{"no address", func(*Config) {}, nil, errNoAddress},
		{"nobody there", func(*Config) {}, []string{"127.0.14.9:9"}, nil},
		{"bad address", func(*Config) {}, []string{"127.0.14.9:0"}, nil},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig("guest", fmt.Sprintf("127.0.14.%d", i+2), &owner{})
			tt.change(&cfg)
			p := start(t, cfg)
			err := p.Join(context.Background(), tt.addrs)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("Join: %v, want %v", err, tt.want)
			}
			t.Log(err)
			if alive(host) != 1 || alive(p) != 1 {
				t.Errorf("members: host %d, guest %d", alive(host), alive(p))
			}
		})
	}
	hostess.mu.Lock()
	hostess.refuse = errors.New("no member record")
	hostess.mu.Unlock()
	p := start(t, testConfig("guest", "127.0.14.20", &owner{}))
	_ = p.Join(context.Background(), []string{at})
	p.Broadcast([]byte("after"))
	within(t, 2*time.Second, "guest sees host", func() bool { return alive(p) == 2 })
	if alive(host) != 1 {
		t.Error("a refused node is a member")
	}
}

func TestKeyRotation(t *testing.T) {
	testhost.VerifyNone(t)
	pools, owners := mesh(t, 2, 15)
	old, fresh := bytes.Repeat([]byte{7}, KeySize), bytes.Repeat([]byte{9}, KeySize)
	steps := [][][]byte{{old, fresh}, {fresh, old}, {fresh}}
	for i, keys := range steps {
		for _, p := range pools {
			if err := p.SetKeys(keys[0], keys[1:]...); err != nil {
				t.Fatal(err)
			}
			word := fmt.Sprintf("step %d from %s", i, p.cfg.Name)
			p.Broadcast([]byte(word))
			within(t, time.Second, word, func() bool { return owners[0].count(word)+owners[1].count(word) == 1 })
		}
	}
	if err := pools[0].SetKeys(old[:16]); err == nil {
		t.Error("a short key was taken")
	}
}

func TestConfig(t *testing.T) {
	tests := map[string]func(*Config){
		"no name":     func(c *Config) { c.Name = "" },
		"short key":   func(c *Config) { c.Key = c.Key[:16] },
		"unspecified": func(c *Config) { c.Bind = netip.IPv4Unspecified() },
		"no delegate": func(c *Config) { c.Delegate = nil },
		"long label":  func(c *Config) { c.Label = strings.Repeat("l", 256) },
		"not ours":    func(c *Config) { c.Bind = netip.MustParseAddr("192.0.2.1") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			testhost.VerifyNone(t)
			cfg := testConfig("a", "127.0.16.1", &owner{})
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
	a, b := start(t, testConfig("a", "::1", &owner{})), start(t, testConfig("b", "::1", &owner{}))
	if err := b.Join(context.Background(), []string{a.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "members", func() bool { return alive(a) == 2 && alive(b) == 2 })
}
