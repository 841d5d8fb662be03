// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func everything() Config {
	return Config{
		Range4: netip.MustParsePrefix("240.64.0.0/12"), Range6: netip.MustParsePrefix("fd7a:ac17::/32"),
		Port4: 15001, Port6: 15006, DNSPort4: 15053, DNSPort6: 15063,
		Resolvers: []netip.Addr{
			netip.MustParseAddr("10.99.0.53"), netip.MustParseAddr("fd00:99::53"), netip.MustParseAddr("10.99.0.53"),
			netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("::1"), netip.MustParseAddr("fe80::1%eth0"),
		},
		IPv6: true, TPROXY: true,
	}
}

func with(change func(*Config)) Config {
	c := everything()
	change(&c)
	return c
}

// own is a host without socket hooks.
func own(c *Config) {
	c.Daemon, c.Guards = "/", []uint16{5432, 80, 5432} // the root: a cgroup that every host has
}

func exclusions(c *Config) {
	c.Exclude = Exclude{Ports: []uint16{22, 9100, 22}, CIDRs: []netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("192.0.2.1/32"),
	}}
}

func TestPlanGolden(t *testing.T) {
	for name, p := range map[string]Plan{
		"full":            NewPlan(everything()),
		"sockets":         NewPlan(with(func(c *Config) { c.TPROXY = false })),
		"sockets-v4":      NewPlan(with(func(c *Config) { c.TPROXY, c.IPv6 = false, false })),
		"tproxy-v4":       NewPlan(with(func(c *Config) { c.IPv6 = false })),
		"tproxy-no-dns":   NewPlan(with(func(c *Config) { c.Resolvers = nil })),
		"tproxy-no-ports": NewPlan(with(func(c *Config) { c.Port4, c.Port6, c.DNSPort4, c.DNSPort6 = 0, 0, 0, 0 })),
		"excluded":        NewPlan(with(exclusions)),
		"exclude-all":     NewPlan(with(func(c *Config) { c.Exclude.CIDRs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} })),
		"gated":           NewPlan(with(func(c *Config) { c.Gate = true })),
		"own":             NewPlan(with(own)),
		"guard-ports":     GuardPlan(with(own)),
		"guard":           GuardPlan(everything()),
		"guard-v4":        GuardPlan(with(func(c *Config) { c.IPv6 = false })),
		"answers":         NewPlan(with(func(c *Config) { c.Answers = []uint16{5432, 8080} })),
		"answers-sockets": NewPlan(with(func(c *Config) { c.Answers, c.TPROXY = []uint16{5432}, false })),
		"nothing":         NewPlan(Config{}),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, p.String()) })
	}
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("this differs from %s (go test -update writes it):\n%s", file, text)
	}
}

func TestSortedFamilies(t *testing.T) {
	f := everything().families()
	if len(f) != 2 || f[0].v6 || !f[1].v6 || !slices.Equal(f[0].resolvers[:1], []netip.Addr{netip.MustParseAddr("10.99.0.53")}) {
		t.Errorf("families = %+v", f)
	}
}
