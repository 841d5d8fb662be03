// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// String prints the plan as the commands that would put it in force, one per line, in order.
func (p Plan) String() string {
	var lines []string
	for _, r := range p.routes {
		lines = append(lines, r.String())
	}
	for _, r := range p.rules {
		lines = append(lines, r.String())
	}
	for _, c := range p.chains {
		lines = append(lines, c.newText())
		for i := range c.specs {
			lines = append(lines, c.specText(i))
		}
		lines = append(lines, c.jumpText())
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// String prints the route as ip-route(8) takes it.
func (r route) String() string {
	s := fmt.Sprintf("%s route add %s %s", ipCommand(r.v6()), r.kind, r.dst)
	if r.kind == kindLocal {
		s += " dev lo"
	}
	s += fmt.Sprintf(" table %s proto %d", tableName(r.table), routeProtocol)
	if r.metric != 0 {
		s += fmt.Sprintf(" metric %d", r.metric)
	}
	if r.src.IsValid() {
		s += " src " + r.src.String()
	}
	return s
}

// v6 reports the route's family.
func (r route) v6() bool { return r.dst.Addr().Is6() }

// String prints the rule as ip-rule(8) takes it.
func (r rule) String() string {
	what := fmt.Sprintf("fwmark %#x/%#x", r.mark, r.mask)
	if r.src.IsValid() {
		what = fmt.Sprintf("from %s ipproto tcp sport %d", r.src, r.sport)
	}
	return fmt.Sprintf("%s rule add priority %d %s lookup %s protocol %d", ipCommand(r.v6), r.priority, what, tableName(r.table), routeProtocol)
}

func (c chain) newText() string {
	return fmt.Sprintf("%s -t %s -N %s", c.command(), c.table, c.name())
}

func (c chain) specText(i int) string {
	return fmt.Sprintf("%s -t %s -A %s %s", c.command(), c.table, c.name(), printed(c.specs[i]))
}

// printed is a rule as iptables -S prints it, with quotes around a cgroup's path.
func printed(spec []string) string {
	out := slices.Clone(spec)
	if i := slices.Index(out, "--path"); i >= 0 {
		out[i+1] = `"` + out[i+1] + `"`
	}
	return strings.Join(out, " ")
}

func (c chain) jumpText() string {
	return fmt.Sprintf("%s -t %s -I %s 1 -j %s", c.command(), c.table, c.parent, c.name())
}

func (c chain) command() string {
	if c.v6 {
		return "ip6tables"
	}
	return "iptables"
}

func ipCommand(v6 bool) string {
	if v6 {
		return "ip -6"
	}
	return "ip -4"
}

func tableName(table int) string {
	if table == tableLocal {
		return "local"
	}
	return strconv.Itoa(table)
}
