// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"net"
	"testing"
	"time"
)

// diversions are rules of others that send what is local to this host, as virtual addresses are, to port 9999.
var diversions = map[string]string{
	"docker": `for i in iptables ip6tables; do $i -t nat -N DOCKER
		for h in PREROUTING OUTPUT; do $i -t nat -I $h 1 -m addrtype --dst-type LOCAL -j DOCKER; done; done
		iptables -t nat -A DOCKER -p tcp --dport 5432 -j DNAT --to-destination 10.9.0.1:9999
		ip6tables -t nat -A DOCKER -p tcp --dport 5432 -j DNAT --to-destination [fd00:9::1]:9999`,
	"redirect": `for i in iptables ip6tables; do for h in PREROUTING OUTPUT; do $i -t nat -I $h 1 -p tcp -j REDIRECT --to-ports 9999; $i -t nat -I $h 1 -p udp -j REDIRECT --to-ports 5353; done; done`,
	"nftables, before iptables": `nft add table inet other
		nft 'add chain inet other out { type nat hook output priority -150; }'
		nft 'add chain inet other pre { type nat hook prerouting priority -150; }'
		for c in out pre; do nft add rule inet other $c tcp dport 5432 redirect to :9999; done`,
}

// TestNoDiversion makes captured connections on a host with NAT rules of others, which divert them without our chains and
// don't with them.
func TestNoDiversion(t *testing.T) {
	for name, rules := range diversions {
		for _, backend := range []string{"nft", "legacy"} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				useBackend(t, backend)
				enter(t)
				there := newElsewhere(t)
				there.join(t)
				listeners, dns4, dns6 := listenAll(t)
				c := everything()
				c.Port4, c.Port6 = listeners.Ports()
				c.DNSPort4, c.DNSPort6 = dns4.Port(), dns6.Port()
				local, err := net.Listen("tcp", ":5432") // in the place of the sk_lookup program, for this namespace's own
				must(t, err)
				defer local.Close()
				diverted, err := net.Listen("tcp", ":9999")
				must(t, err)
				defer diverted.Close()
				shell(t, rules)

				unguarded := NewPlan(c)
				for i, chain := range unguarded.chains {
					if chain.table == raw {
						unguarded.chains[i].specs = nil
					}
				}
				must(t, Apply(unguarded))
				for _, addr := range []string{"240.64.0.9:5432", "[fd7a:ac17::9]:5432"} {
					arrives(t, net.Dial, addr, diverted, "without our chains")
				}
				must(t, Apply(NewPlan(c)))
				for _, addr := range []string{"240.64.0.9:5432", "[fd7a:ac17::9]:5432"} {
					arrives(t, net.Dial, addr, local, "with our chains")
				}
				captured(t, there, listeners.TCP4, "240.64.0.9:5432")
				captured(t, there, listeners.TCP6, "[fd7a:ac17::9]:5432")
				captured(t, there, dns4.TCP, "10.99.0.53:53")
				answered(t, there, dns4.UDP, "10.99.0.53:53")
				arrives(t, net.Dial, "127.0.0.1:5432", diverted, "what isn't ours")
			})
		}
	}
}

// arrives connects to addr and expects ln to accept that connection.
func arrives(t *testing.T, dial func(network, addr string) (net.Conn, error), addr string, ln net.Listener, when string) {
	t.Helper()
	client, err := dial("tcp", addr)
	if err != nil {
		t.Errorf("%s: dial %s: %v", when, addr, err)
		return
	}
	defer client.Close()
	must(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	conn, err := ln.Accept()
	if err != nil {
		t.Errorf("%s: %s didn't arrive at %s: %v", when, addr, ln.Addr(), err)
		return
	}
	conn.Close()
}
