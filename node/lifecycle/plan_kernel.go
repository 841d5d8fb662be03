// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"regexp"

	"tacit/node/datapath"
)

func (f facts) maps() group {
	g := group{title: "eBPF maps, pinned: they outlive the daemon"}
	if f.mount != "" {
		g.step(stateAdd, "mount a bpffs at %s (mode 0700)", f.mount)
	}
	g.make(f.exists(f.BPFDir), "%s (mode 0700)", f.BPFDir)
	for _, pin := range f.pins {
		if pin.Hook == "" {
			g.make(pin.Present, "%s", pin.Path)
		}
	}
	return g
}

func (f facts) programs() group {
	g := group{title: "eBPF programs, attached and their links pinned: they outlive the daemon"}
	for _, pin := range f.pins {
		text := fmt.Sprintf("%s on %s, pinned as %s", pin.Hook, pin.Where, pin.Path)
		switch {
		case pin.Hook == "":
		case pin.Problem != "":
			g.step(stateUpdate, "%s: attached again (%s)", text, pin.Problem)
		case pin.Present:
			g.step(stateUpdate, "%s: replaced by this version's program", text)
		default:
			g.step(stateAdd, "%s", text)
		}
	}
	return g
}

// freePort matches the ports that only a start knows.
var freePort = regexp.MustCompile(`--on-port \d+`)

func (f facts) routes() group {
	g := group{title: "Routes, rules and chains, as the equivalent commands; restored within a second when another program flushes them"}
	want, missing := f.steering.lines()
	for _, line := range want {
		g.make(!missing[line], "%s", freePort.ReplaceAllString(line, "--on-port FREE-PORT"))
	}
	for _, line := range f.steering.leftOver() {
		g.step(stateRemove, "%s", line)
	}
	if f.steering.noIptables {
		g.step(stateNever, "%s", datapath.AdviceIptables)
	}
	return g
}
