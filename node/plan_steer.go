// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"

	"tacit/node/definition"
	"tacit/redirect"
)

// redirectConfig is the part of redirect.Config that is known before any
// listener is open. noIptables: TPROXY is wanted and can't be had.
func (s *settled) redirectConfig(resolvers []netip.Addr) (c redirect.Config, noIptables bool) {
	c = redirect.Config{Range4: s.Range4, Range6: s.Range6, IPv6: hasIPv6(), TPROXY: s.Redirect != "sockets", Resolvers: resolvers,
		Exclude: redirect.Exclude{Ports: s.Exclude.Ports, CIDRs: s.Exclude.CIDRs}}
	c.Gate = c.TPROXY && s.Redirect != redirectTPROXY
	if _, err := exec.LookPath("iptables"); err != nil && c.TPROXY {
		c.TPROXY, noIptables = false, true
	}
	return c, noIptables
}

const adviceIptables = "iptables is not installed: programs in other network namespaces are not captured (apt-get install iptables)"

// freePort stands for ports that only a start finds out.
var freePort = regexp.MustCompile(`--on-port \d+`)

// steering compares routes, rules and chains with what is there. A rule of a
// chain that is there differs at least in its listener's port.
func (p *plan) steering() (planGroup, error) {
	g := planGroup{title: "Routes, rules and chains, as the commands that stand for them; set again within a second when others flush them"}
	c, noIptables := p.cfg.redirectConfig(p.resolvers)
	c.Port4, c.DNSPort4, c.Port6, c.DNSPort6 = 1, 2, 3, 4
	want := redirect.NewPlan(c)
	found, err := redirect.Drift(want)
	if err != nil {
		return g, err
	}
	missing := map[string]bool{}
	for _, line := range found {
		if text, ok := strings.CutPrefix(line, "missing: "); ok {
			missing[text] = true
		}
	}
	for line := range strings.Lines(want.String()) {
		line = strings.TrimSpace(line)
		state := statePresent
		if missing[line] {
			state = stateAdd
		}
		g.step(state, "%s", freePort.ReplaceAllString(line, "--on-port FREE-PORT"))
	}
	for _, line := range found {
		if text, ok := strings.CutPrefix(line, "left over: "); ok {
			g.step(stateRemove, "%s", text)
		}
	}
	if noIptables {
		g.step(stateNever, "%s", adviceIptables)
	}
	return g, nil
}

// services are the ports that definitions close.
func (p *plan) services() (planGroup, error) {
	g := planGroup{title: "Ports of services on this node, which take no plain connections from then on"}
	defs, bad := definition.Load(p.cfg.ServicesDir)
	for _, d := range defs {
		switch {
		case d.Port == 0:
			continue
		case d.Permissive:
			g.step(stateNever, "port %d of %s (%s): permissive, plain connections are let in", d.Port, d.ID, d.Source)
		default:
			g.make(p.running, "close port %d of %s (%s)", d.Port, d.ID, d.Source)
		}
		if err := p.cfg.Exclude.clash(d); err != nil {
			g.step("conflict", "%s", err)
		}
	}
	for _, b := range bad {
		g.step("conflict", "%s", b)
	}
	if exists(p.cfg.path("state.db")) {
		g.step(statePresent, "those that were registered by command before")
	}
	if len(g.steps) == 0 {
		g.step(stateNever, "none: %s defines no service with a port", p.cfg.ServicesDir)
	}
	return g, nil
}

func (p *plan) untouched() (planGroup, error) {
	g := planGroup{title: "Left alone"}
	g.step(stateNever, "%s and nsswitch.conf: queries to its name servers are captured on their way", p.cfg.ResolvConf)
	g.step(stateNever, "every sysctl, every address and interface, and every route, rule and chain that is not in this list")
	g.step(stateNever, "every other process: none is restarted, moved or signalled")
	for _, what := range p.cfg.Exclude.describe() {
		g.step(stateNever, "%s", what)
	}
	for _, a := range p.spared {
		g.step(stateNever, "name look-ups that are sent to %s: it is excluded", a)
	}
	return g, nil
}

// describe says in words what is excluded, one line each.
func (e Exclude) describe() []string {
	var out []string
	say := func(what string, items any, n int) {
		if n > 0 {
			out = append(out, fmt.Sprintf("connections %s %s (excluded)", what, strings.Trim(fmt.Sprint(items), "[]")))
		}
	}
	say("to ports", e.Ports, len(e.Ports))
	say("to networks", e.CIDRs, len(e.CIDRs))
	say("and name look-ups of users", e.UIDs, len(e.UIDs))
	say("and name look-ups from cgroups", e.Cgroups, len(e.Cgroups))
	return out
}
