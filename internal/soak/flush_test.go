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

// foreign is what others have put on the hosts before tacit.
const foreign = `
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
for ipt in iptables ip6tables; do
	for table in filter nat mangle; do $ipt -t $table -N FOREIGN; done
	$ipt -A INPUT -j FOREIGN
	$ipt -A FOREIGN -p tcp --dport 4444 -j DROP
	$ipt -t nat -A POSTROUTING -o eth0 -j FOREIGN
	$ipt -t nat -A FOREIGN -j MASQUERADE
	$ipt -t mangle -A PREROUTING -p udp --dport 4445 -j FOREIGN
	$ipt -t mangle -A FOREIGN -j MARK --set-mark 0x77
done
ip rule add priority 5210 fwmark 0x77 lookup 77
ip -6 rule add priority 5210 fwmark 0x77 lookup 77
ip route add 198.51.100.0/24 dev lo table 77
ip route add 203.0.113.0/24 dev eth0
ip route add local 192.0.2.0/24 dev lo
ip -6 route add 2001:db8:77::/48 dev lo table 77`

// all prints rules, routes and firewall; what differs by itself is taken out.
const all = `
for f in -4 -6; do ip $f rule; ip $f route show table all | sed 's/ expires [0-9]*sec//' | sort; done
for ipt in iptables ip6tables; do $ipt-save | sed 's/ \[[0-9]*:[0-9]*\]//; /^#/d'; done`

// routes and ours print what tacit has put there.
const routes = `
for f in -4 -6; do ip $f rule show priority 1160; for t in local 11600; do ip $f route show table $t proto 116; done; done
`

const ours = routes + `
for ipt in iptables ip6tables; do $ipt -t mangle -S | grep TACIT; done; true`

// only takes away what is tacit's; everything takes the whole firewall away,
// and its owner brings back what was foreign.
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

// flushBed has a container on host1, and hosts that forward.
type flushBed struct {
	*bed
	box      *testhost.Host
	before   map[*testhost.Host]string // tacit
	want     map[*testhost.Host]string // of ours
	way      map[*testhost.Host]string // routes alone
	again    []time.Duration
	repaired []time.Duration
	flushes  int
	late     int
}

// TestFlush takes routes, rules and chains away under load, again and again.
func TestFlush(t *testing.T) {
	b := newFlushBed(t)
	b.load(200)
	b.loadMore()
	half := time.Duration(size(4, 20)) * time.Second
	stop := progress(t, func() string {
		return fmt.Sprintf("%d flushes, %d of %d calls of web answered", b.flushes, tally(b.all(nil, "web"))["ok"], len(b.all(nil, "web")))
	})
	b.loop(half, func(*testhost.Host) string { return only + steering }, true)
	b.foreignStays("what is tacit's was flushed")
	b.loop(half, func(h *testhost.Host) string { return fmt.Sprintf(everything, h.Dir+"/foreign") + steering }, true)
	b.loop(half, func(h *testhost.Host) string { return fmt.Sprintf(everything, h.Dir+"/foreign") + steering }, false)
	stop()
	b.repair(time.Now())
	b.foreignStays("everything was flushed, and its owner's rules set again")
	testhost.Eventually(t, 20*time.Second, "web is answered", func() error { return b.answeredSince(b.host1, time.Now().Add(-time.Second)) })
	b.rest()
	figure(t, "flush: how often", "%d", b.flushes)
	figure(t, "flush: routes and rules there again", "%s", spread(b.again))
	count(t, "flush: repaired, chains too", "1 s", spread(b.repaired), b.late == 0)
	b.closed(t, "flush")
	b.shares(t)
}

func newFlushBed(t *testing.T) *flushBed {
	t.Helper()
	b := &flushBed{before: map[*testhost.Host]string{}, want: map[*testhost.Host]string{}, way: map[*testhost.Host]string{}}
	b.bed = newBed(t, func(h *testhost.Host) {
		for _, line := range []string{foreign, fmt.Sprintf("iptables-save >%[1]s.4; ip6tables-save >%[1]s.6", h.Dir+"/foreign")} {
			if out, exit := h.Run(t, "", "sh", "-ec", line); exit != 0 {
				t.Fatal(out)
			}
		}
	})
	b.box = b.host1.Container(t, "box")
	b.sh(b.host1, "sysctl -qw net.ipv4.ip_forward=1")
	for _, name := range []string{"app", "worse"} {
		b.tacit(b.host1, "service", "register", name, "--cgroup", b.box.CgroupPath(name))
	}
	b.tacit(b.host1, "intention", "allow", "app", "db", "--wait", "--timeout", "30s")
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		b.before[h] = theirs(b.ask(h, all))
		b.want[h], b.way[h] = b.ask(h, ours), b.ask(h, routes)
	}
	return b
}

// ask prints what is there; a table that is gone is an error of ip's.
func (b *flushBed) ask(h *testhost.Host, script string) string {
	b.t.Helper()
	out, _ := h.Run(b.t, "user", "sh", "-c", script)
	return out
}

var isOurs = regexp.MustCompile(`(?m)^(1160:|.* proto 116\b|.*TACIT-PREROUTING).*\n`)

// theirs takes out what is tacit's.
func theirs(text string) string { return isOurs.ReplaceAllString(text, "") }

// loadMore: the container's programs, and a host outside.
func (b *flushBed) loadMore() {
	b.t.Helper()
	virtual := []target{{Addr: b.places[b.host1][0]}, {Addr: b.places[b.host1][1]}}
	b.call(b.box, "app", plan{Name: "app", Rate: 40, Workers: 24, Targets: virtual})
	b.call(b.box, "worse", plan{Name: "worse", Rate: 20, Workers: 24, Targets: virtual})
	b.call(b.box, "user", plan{Name: "nobody", Rate: 20, Workers: 24, Targets: virtual})
	b.call(b.outside, "user", plan{Name: "outside", Rate: 20, Workers: 24, Targets: []target{{Addr: b.places[b.host1][2]}}})
	testhost.Eventually(b.t, 20*time.Second, "the container's calls are answered", func() error {
		got := tally(b.all(b.box, "app"))
		if got["ok"] == 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// loop flushes for a while, with or without waiting for the repair.
func (b *flushBed) loop(d time.Duration, script func(*testhost.Host) string, wait bool) {
	b.t.Helper()
	hosts := []*testhost.Host{b.host1, b.host2}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, h := range hosts {
			h.Run(b.t, "user", "sh", "-c", script(h))
			b.flushes++
		}
		if wait {
			b.repair(time.Now())
		}
	}
}

// repair waits until all of ours is there again on both hosts.
func (b *flushBed) repair(began time.Time) {
	b.t.Helper()
	b.again = append(b.again, b.wait("routes and rules", routes, b.way, began))
	took := b.wait("chains, too", ours, b.want, began)
	b.repaired = append(b.repaired, took)
	if took > time.Duration(size(5000, 1500))*time.Millisecond { // 1 s, and the time that looking takes
		b.late++
	}
}

func (b *flushBed) wait(what, script string, want map[*testhost.Host]string, began time.Time) time.Duration {
	b.t.Helper()
	for h := range want {
		testhost.Eventually(b.t, 20*time.Second, what+" on "+h.Name, func() error {
			if now := b.ask(h, script); now != want[h] {
				return fmt.Errorf("is\n%s\nwant\n%s", now, want[h])
			}
			return nil
		})
	}
	return time.Since(began)
}

func (b *flushBed) foreignStays(when string) {
	b.t.Helper()
	for _, h := range []*testhost.Host{b.host1, b.host2} {
		now := theirs(b.ask(h, all))
		count(b.t, "flush: foreign rules and routes on "+h.Name+" after "+when, "the same", now == b.before[h], now == b.before[h])
		if now != b.before[h] {
			b.t.Logf("before:\n%s\nnow:\n%s", b.before[h], now)
		}
	}
}

// shares says how many allowed calls failed meanwhile, by caller and way.
func (b *flushBed) shares(t *testing.T) {
	for _, c := range []struct {
		name string
		host *testhost.Host
	}{{"web", b.host1}, {"web", b.host2}, {"app", b.box}} {
		ways := map[string][]attempt{}
		for _, a := range b.all(c.host, c.name) {
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
