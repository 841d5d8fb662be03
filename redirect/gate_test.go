// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGate: a packet is steered only if a transparent socket is found for it, with both backends. On a host with hooks the
// sk_lookup program finds one; here one is bound to the packet's destination.
func TestGate(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			useBackend(t, backend)
			enter(t)
			there := newElsewhere(t)
			there.join(t)
			listeners, dns4, dns6 := listenAll(t)
			c := everything()
			c.Port4, c.Port6 = listeners.Ports()
			c.DNSPort4, c.DNSPort6 = dns4.Port(), dns6.Port()
			c.Gate = true
			plan := NewPlan(c)
			must(t, Apply(plan))
			if lines, err := Drift(plan); err != nil || len(lines) > 0 {
				t.Errorf("drift = %q, %v", lines, err)
			}

			closed := func() {
				t.Helper()
				for _, addr := range []string{"240.64.0.9:5432", "[fd7a:ac17::9]:5432"} {
					if err := dial(there, addr, patience); !errors.Is(err, unix.ECONNREFUSED) {
						t.Errorf("closed: dial %s = %v", addr, err)
					}
				}
			}
			closed()
			shut := openAt(t, "tcp:240.64.0.9:5432", "tcp:[fd7a:ac17::9]:5432", "udp:10.99.0.53:53", "tcp:[fd00:99::53]:53")
			captured(t, there, listeners.TCP4, "240.64.0.9:5432")
			captured(t, there, listeners.TCP6, "[fd7a:ac17::9]:5432")
			answered(t, there, dns4.UDP, "10.99.0.53:53")
			captured(t, there, dns6.TCP, "[fd00:99::53]:53")
			shut()
			closed()

			// Without the gate, a packet without a listener is dropped.
			ungated := with(func(u *Config) { u.Port4, u.Port6 = c.Port4+1, c.Port6+1 })
			must(t, Apply(NewPlan(ungated)))
			var timeout net.Error
			if err := dial(there, "240.64.0.9:5432", time.Second); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("without gate and listener: dial = %v", err)
			}
			must(t, Cleanup())
		})
	}
}

// TestKernelGolden compares what the kernel holds after Apply with files, for both backends.
func TestKernelGolden(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		for name, c := range map[string]Config{
			"full":     everything(),
			"v4":       with(func(c *Config) { c.IPv6 = false }),
			"excluded": with(exclusions),
			"own":      with(own),
			"gated":    with(func(c *Config) { c.Gate = true }),
		} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				useBackend(t, backend)
				enter(t)
				plan := NewPlan(c)
				must(t, Apply(plan))
				got := shell(t, "ip -4 rule show proto 116; ip -6 rule show proto 116; ip -4 route show table all proto 116;"+
					"ip -6 route show table all proto 116") + tablesHeld(t)
				golden(t, "kernel-"+name, got) // one file: the backends must not differ
				if lines, err := Drift(plan); err != nil || len(lines) > 0 {
					t.Errorf("drift = %q, %v", lines, err)
				}
				// iptables prints every rule as we wrote it, so that no iptables -C is needed.
				for _, c := range plan.chains {
					table, err := kernelHost{}.tables(c.v6)
					must(t, err)
					have, _, err := table.rules(c.table, c.name())
					must(t, err)
					for i, spec := range c.specs {
						if i >= len(have) || have[i] != printed(spec) {
							t.Errorf("rule %d of %s %s isn't printed as %q", i, c.table, c.name(), spec)
						}
					}
				}
			})
		}
	}
}

// openAt opens transparent sockets that never accept, and returns the function that closes them.
func openAt(t *testing.T, places ...string) (shut func()) {
	t.Helper()
	var all []io.Closer
	for _, place := range places {
		network, addr, _ := strings.Cut(place, ":")
		config := net.ListenConfig{Control: transparent(netip.MustParseAddrPort(addr).Addr().Is6())}
		config.SetMultipathTCP(false)
		var one io.Closer
		var err error
		if network == "tcp" {
			one, err = config.Listen(t.Context(), network, addr)
		} else {
			one, err = config.ListenPacket(t.Context(), network, addr)
		}
		must(t, err)
		all = append(all, one)
	}
	return func() {
		for _, one := range all {
			must(t, one.Close())
		}
	}
}

// transparent lets a socket be bound to an address that isn't the host's.
func transparent(v6 bool) func(string, string, syscall.RawConn) error {
	level, name := unix.SOL_IP, unix.IP_TRANSPARENT
	if v6 {
		level, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, 1) }), err)
	}
}
