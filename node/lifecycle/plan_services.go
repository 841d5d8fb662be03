// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"strings"

	"tacit/node/config"
	"tacit/node/definition"
)

// services lists the ports that service definitions close.
func (f facts) services() group {
	g := group{title: "Ports of services on this node: plain connections to them are refused from then on"}
	for _, d := range f.definitions {
		f.service(&g, d)
	}
	for _, b := range f.bad {
		g.step(stateConflict, "%s", b)
	}
	if f.exists(f.State("state.db")) {
		g.step(statePresent, "the ports of services that were registered by command earlier")
	}
	if len(g.steps) == 0 {
		g.step(stateNever, "none: %s defines no service with a port", f.ServicesDir)
	}
	return g
}

func (f facts) service(g *group, d definition.Definition) {
	switch {
	case d.LocalPort() == 0:
		return
	case d.Permissive:
		g.step(stateNever, "port %d of %s (%s): permissive, plain connections are let in", d.Port, d.ID, d.Source)
	default:
		g.make(f.runs(), "close port %d of %s (%s)", d.Port, d.ID, d.Source)
	}
	if err := f.Exclude.Clash(d); err != nil {
		g.step(stateConflict, "%s", err)
	}
}

func (f facts) leftAlone() group {
	g := group{title: "Left alone"}
	g.step(stateNever, "%s and nsswitch.conf: queries to its name servers are captured on their way", f.ResolvConf)
	g.step(stateNever, "every sysctl, every address and interface, and every route, rule and chain that is not in this list")
	g.step(stateNever, "every other process: none is restarted, moved or signalled")
	for _, what := range exclusions(f.Exclude) {
		g.step(stateNever, "%s", what)
	}
	for _, a := range f.excluded {
		g.step(stateNever, "DNS queries to %s: it is excluded", a)
	}
	return g
}

// exclusions describes what is excluded, one line a list.
func exclusions(e config.Exclude) []string {
	var out []string
	add := func(what string, items any, n int) {
		if n > 0 {
			out = append(out, fmt.Sprintf("connections %s %s (excluded)", what, strings.Trim(fmt.Sprint(items), "[]")))
		}
	}
	add("to ports", e.Ports, len(e.Ports))
	add("to networks", e.CIDRs, len(e.CIDRs))
	add("and DNS queries of users", e.UIDs, len(e.UIDs))
	add("and DNS queries from cgroups", e.Cgroups, len(e.Cgroups))
	return out
}
