// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// ownersRules is what the host's owner has set before tacit is installed.
const ownersRules = `
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
for ipt in iptables ip6tables; do
	for table in filter nat mangle; do $ipt -t $table -N OWNER; done
	$ipt -A INPUT -j OWNER
	$ipt -A OWNER -p tcp --dport 4444 -j DROP
	$ipt -t nat -A POSTROUTING -o eth0 -j OWNER
	$ipt -t nat -A OWNER -j MASQUERADE
	$ipt -t mangle -A PREROUTING -p udp --dport 4445 -j OWNER
	$ipt -t mangle -A OWNER -j MARK --set-mark 0x77
done
ip rule add priority 5210 fwmark 0x77 lookup 77
ip -6 rule add priority 5210 fwmark 0x77 lookup 77
ip route add 198.51.100.0/24 dev lo table 77
ip route add 203.0.113.0/24 dev eth0
ip route add local 192.0.2.0/24 dev lo
ip -6 route add 2001:db8:77::/48 dev lo table 77`

// all prints rules, routes and firewall without what changes by itself.
const all = `
for f in -4 -6; do ip $f rule; ip $f route show table all | sed 's/ expires [0-9]*sec//' | sort; done
for ipt in iptables ip6tables; do $ipt-save | sed 's/ \[[0-9]*:[0-9]*\]//; /^#/d'; done`

// routes and ours print what tacit has set.
const routes = `
for f in -4 -6; do ip $f rule show priority 1160; for t in local 11600; do ip $f route show table $t proto 116; done; done
`

const ours = routes + `
for ipt in iptables ip6tables; do $ipt -t mangle -S | grep TACIT; done; true`

// only removes tacit's chains; everything flushes the whole firewall and restores
// the owner's rules; steering removes tacit's rules and routes.
const (
	only = `
for ipt in iptables ip6tables; do
	$ipt -t mangle -F TACIT-PREROUTING; $ipt -t mangle -D PREROUTING -j TACIT-PREROUTING; $ipt -t mangle -X TACIT-PREROUTING
done 2>/dev/null
`
	everything = `
for ipt in iptables ip6tables; do
	for table in filter nat mangle raw security; do $ipt -t $table -F; $ipt -t $table -X; done
done 2>/dev/null
nft flush ruleset
iptables-restore <%[1]s.4; ip6tables-restore <%[1]s.6
`
	steering = `
for f in -4 -6; do
	ip $f rule del priority 1160; ip $f route flush table 11600 proto 116; ip $f route flush table local proto 116
done 2>/dev/null
true`
)

// flushFixture has a container on host1, and hosts that forward.
type flushFixture struct {
	*loadFixture
	box      *testhost.Host
	before   map[*testhost.Host]string // owner's rules, routes and firewall
	want     map[*testhost.Host]string // output of ours
	routes   map[*testhost.Host]string // output of routes
	again    []time.Duration           // until routes and rules were set again
	repaired []time.Duration           // until the chains were, too
	flushes  int
	late     int // repairs that took too long
}

// TestFlush removes routes, rules and chains under load, again and again.
func TestFlush(t *testing.T) {
	f := newFlushFixture(t)
	f.load(200)
	f.loadMore()
	half := time.Duration(size(4, 20)) * time.Second
	stop := progress(t, func() string {
		return fmt.Sprintf("%d flushes, %d of %d calls of web answered", f.flushes, tally(f.all(nil, "web"))["ok"], len(f.all(nil, "web")))
	})
	f.loop(half, func(*testhost.Host) string { return only + steering }, true)
	f.ownersStay("tacit's own was flushed")
	f.loop(half, func(h *testhost.Host) string { return fmt.Sprintf(everything, h.Dir+"/owner") + steering }, true)
	f.loop(half, func(h *testhost.Host) string { return fmt.Sprintf(everything, h.Dir+"/owner") + steering }, false)
	stop()
	f.repair(time.Now())
	f.ownersStay("everything was flushed and the owner's restored")
	testhost.Eventually(t, 20*time.Second, "web is answered", func() error { return f.answeredSince(f.host1, time.Now().Add(-time.Second)) })
	f.rest()
	figure(t, "flush: how often", "%d", f.flushes)
	figure(t, "flush: routes and rules set again", "%s", spread(f.again))
	count(t, "flush: repaired, chains too", "1 s", spread(f.repaired), f.late == 0)
	f.closed(t, "flush")
	f.shares(t)
}

func newFlushFixture(t *testing.T) *flushFixture {
	t.Helper()
	f := &flushFixture{before: map[*testhost.Host]string{}, want: map[*testhost.Host]string{}, routes: map[*testhost.Host]string{}}
	f.loadFixture = newLoadFixture(t, func(h *testhost.Host) {
		h.Sh(t, ownersRules)
		h.Sh(t, fmt.Sprintf("iptables-save >%[1]s.4; ip6tables-save >%[1]s.6", h.Dir+"/owner"))
	})
	f.box = f.host1.Container(t, "box")
	f.host1.Sh(t, "sysctl -qw net.ipv4.ip_forward=1")
	for _, name := range []string{"app", "worse"} {
		f.host1.Tacit(f.t, "service", "register", name, "--cgroup", f.box.CgroupPath(name))
	}
	f.host1.Tacit(f.t, "intention", "allow", "app", "db", "--wait", "--timeout", "30s")
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		f.before[h] = theirs(f.ask(h, all))
		f.want[h], f.routes[h] = f.ask(h, ours), f.ask(h, routes)
	}
	return f
}

// ask runs a script whose exit status doesn't count: ip fails for an empty table.
func (f *flushFixture) ask(h *testhost.Host, script string) string {
	f.t.Helper()
	out, _ := h.Run(f.t, "user", "sh", "-c", script)
	return out
}

var isOurs = regexp.MustCompile(`(?m)^(1160:|.* proto 116\b|.*TACIT-PREROUTING).*\n`)

// theirs removes tacit's lines.
func theirs(text string) string { return isOurs.ReplaceAllString(text, "") }

// loadMore adds callers in the container and on a host outside.
func (f *flushFixture) loadMore() {
	f.t.Helper()
	virtual := []target{{Addr: f.places[f.host1][0]}, {Addr: f.places[f.host1][1]}}
	f.call(f.box, "app", plan{Name: "app", Rate: 40, Workers: 24, Targets: virtual})
	f.call(f.box, "worse", plan{Name: "worse", Rate: 20, Workers: 24, Targets: virtual})
	f.call(f.box, "user", plan{Name: "nobody", Rate: 20, Workers: 24, Targets: virtual})
	f.call(f.outside, "user", plan{Name: "outside", Rate: 20, Workers: 24, Targets: []target{{Addr: f.places[f.host1][2]}}})
	testhost.Eventually(f.t, 20*time.Second, "the container's calls are answered", func() error {
		got := tally(f.all(f.box, "app"))
		if got["ok"] == 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// loop flushes for a while, and after each flush waits for the repair or doesn't.
func (f *flushFixture) loop(d time.Duration, script func(*testhost.Host) string, wait bool) {
	f.t.Helper()
	hosts := []*testhost.Host{f.host1, f.host2}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, h := range hosts {
			h.Run(f.t, "user", "sh", "-c", script(h))
			f.flushes++
		}
		if wait {
			f.repair(time.Now())
		}
	}
}

// repair waits until everything is set again on both hosts.
func (f *flushFixture) repair(began time.Time) {
	f.t.Helper()
	f.again = append(f.again, f.wait("routes and rules", routes, f.routes, began))
	took := f.wait("chains, too", ours, f.want, began)
	f.repaired = append(f.repaired, took)
	if took > time.Duration(size(5000, 1500))*time.Millisecond { // 1 s, and the time of the check itself
		f.late++
	}
}

func (f *flushFixture) wait(what, script string, want map[*testhost.Host]string, began time.Time) time.Duration {
	f.t.Helper()
	for h := range want {
		testhost.Eventually(f.t, 20*time.Second, what+" on "+h.Name, func() error {
			if now := f.ask(h, script); now != want[h] {
				return fmt.Errorf("is\n%s\nwant\n%s", now, want[h])
			}
			return nil
		})
	}
	return time.Since(began)
}

func (f *flushFixture) ownersStay(when string) {
	f.t.Helper()
	for _, h := range []*testhost.Host{f.host1, f.host2} {
		now := theirs(f.ask(h, all))
		count(f.t, "flush: the owner's rules and routes on "+h.Name+" after "+when, "the same", now == f.before[h], now == f.before[h])
		if now != f.before[h] {
			f.t.Logf("before:\n%s\nnow:\n%s", f.before[h], now)
		}
	}
}

// shares reports how many allowed calls failed, by caller and kind of address.
func (f *flushFixture) shares(t *testing.T) {
	for _, c := range []struct {
		name string
		host *testhost.Host
	}{{"web", f.host1}, {"web", f.host2}, {"app", f.box}} {
		ways := map[string][]attempt{}
		for _, a := range f.all(c.host, c.name) {
			way := []string{"virtual IPv4", "virtual IPv6", "real IPv4"}[a.target]
			ways[way] = append(ways[way], a)
		}
		for _, way := range slices.Sorted(maps.Keys(ways)) {
			list := ways[way]
			var took []time.Duration
			for _, a := range list {
				took = append(took, a.took)
			}
			results := tally(list)
			figure(t, fmt.Sprintf("flush: %s on %s, %s", c.name, c.host.Name, way), "%.1f %% failed: %v; connect %s",
				100*float64(len(list)-results["ok"])/float64(len(list)), results, spread(took))
		}
	}
}
