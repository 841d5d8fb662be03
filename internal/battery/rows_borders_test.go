// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"strings"
)

// borders are sockets that get from one workload to another.
func borders() []row {
	to := []string{"{v4}", "[{v6}]", "{real4}"}
	var rows []row
	for _, ends := range [][2]string{{"web", "evil"}, {"evil", "web"}, {"web", "nobody"}, {"nobody", "web"}} {
		own, other := "{cgroup "+ends[0]+"}", "{cgroup "+ends[1]+"}"
		rows = append(rows, cross("socket made before its process moves to another cgroup", refused, ends[:1], to, []string{"enter=" + other, "enter=" + other + " nonblock", "enter=" + other + " fastopen", "mptcp enter=" + other, "ring enter=" + other})...)
		rows = append(rows, cross("socket inherited over exec in another cgroup", refused, ends[:1], to, []string{"exec=" + other})...)
		rows = append(rows, cross("socket passed by SCM_RIGHTS", refused, ends[1:], to, []string{"pass=" + own, "pass=" + own + " mptcp", "pass=" + own + " fastopen"})...)
		rows = append(rows, cross("socket taken by pidfd_getfd", refused, ends[1:], to, []string{"steal=" + own})...)
		rows = append(rows, cross("socket made in another cgroup, process moved back", refused, ends[:1], to, []string{"into=" + other + " back=" + own})...)
	}
	rows = append(rows, cross("process moved to another cgroup and back before connect()", "ok", []string{"web"}, to, []string{"enter={cgroup evil} back={cgroup web}"})...)
	rows = append(rows, cross("process moved to another cgroup and back before connect()", refused, []string{"evil"}, to, []string{"enter={cgroup web} back={cgroup evil}"})...)
	here := []string{"{here4}", "127.0.0.1", "{real4}"}
	rows = append(rows, cross("socket made before its process moves to another cgroup", refused, []string{"web2"}, here, []string{"enter={cgroup evil2}", "enter={cgroup nobody2}"})...)
	rows = append(rows, cross("socket passed by SCM_RIGHTS", refused, []string{"evil2", "nobody2"}, here, []string{"pass={cgroup web2}", "pass={cgroup db}"})...)
	rows = append(rows, residual()...)
	return append(rows, daemonsCgroup()...)
}

// residual is a known limit: web connects and passes the established connection on,
// which no hook sees. The connection remains web's.
func residual() []row {
	const vector = "established connection passed by SCM_RIGHTS (known limit)"
	rows := cross(vector, "ok", []string{"evil", "nobody"}, []string{"{v4}"}, []string{"pass-connected={cgroup web}"})
	return killedAs("not passed: "+refused, rows)
}

// daemonsCgroup: root moves a process into the daemon's cgroup, which the hooks
// exempt. Services still refuse its connections: other nodes take no plain text, and
// its own node requires the daemon's tag.
func daemonsCgroup() []row {
	const vector = "root in the daemon's own cgroup"
	rows := cross(vector, refusedOrReset, []string{"nobody", "evil"}, all(), []string{"into={daemon1}", "enter={daemon1}"})
	return append(rows, cross(vector, refusedOrReset, deniedHere(), allHere(), []string{"into={daemon2}", "enter={daemon2}"})...)
}

// below is a cgroup of a service that is levels below the hooked root.
func below(service string, levels int) string {
	own := 3 // tacit/services/NAME
	if service == "nobody" {
		own = 1
	}
	return fmt.Sprintf("into={cgroup %s}%s", service, strings.Repeat("/l", levels-own))
}

// cgroups: a program may be anywhere below its workload's cgroup; below the depth that
// tacit searches it is no workload; threads, namespaces and users make no difference.
func cgroups() []row {
	to := []string{"{v4}", "[{v6}]", "{real4}"}
	var rows []row
	for _, levels := range []int{5, 16} {
		rows = append(rows, cross("nested cgroups", "ok", []string{"web"}, to, []string{below("web", levels)})...)
		rows = append(rows, cross("nested cgroups", refused, []string{"evil"}, to, []string{below("evil", levels)})...)
	}
	for _, levels := range []int{17, 20, 40} {
		for _, name := range []string{"web", "evil", "nobody"} {
			rows = append(rows, cross("cgroups nested deeper than tacit searches", refused, []string{name}, to, []string{below(name, levels)})...)
			rows = append(rows, cross("cgroups nested deeper than tacit searches, entered after socket()", refused, []string{name}, to, []string{strings.Replace(below(name, levels), "into", "enter", 1)})...)
		}
	}
	rows = append(rows, cross("cgroups nested deeper than tacit searches", refused, []string{"nobody2"}, []string{"127.0.0.1", "{real4}"}, []string{"into={cgroup evil2}" + strings.Repeat("/l", 20)})...)
	rows = append(rows, cross("threaded cgroups", "ok", []string{"web"}, to, []string{"into={cgroup web}/threads thread"})...)
	rows = append(rows, cross("threaded cgroups", refused, []string{"evil"}, to, []string{"into={cgroup evil}/threads thread"})...)
	return append(rows, delegated(to)...)
}

// delegated: an unprivileged user owns the cgroup own below a workload's.
func delegated(to []string) []row {
	const vector, user = "delegated cgroups", " uid=65534 enter="
	rows := cross(vector, "ok", []string{"web"}, to, []string{"into={cgroup web}/own uid=65534", "into={cgroup web}/own/a uid=65534"})
	for _, name := range denied() {
		own := "{cgroup " + name + "}/own"
		rows = append(rows, cross(vector, refused, []string{name}, to, []string{"into=" + own + user + own + "/sub", "into=" + own + user + own + "/sub/sub cgroupns userns"})...)
		rows = append(rows, cross(vector, "enter: EACCES", []string{name}, to[:1], []string{
			"into=" + own + user + "{cgroup web}", "into=" + own + user + "{cgroup web}/own", "uid=65534 enter={cgroup web}", "uid=65534 userns enter={cgroup web}"})...)
	}
	rows = append(rows, cross("unprivileged user", "ok", []string{"web"}, to, []string{"uid=65534", "uid=65534 userns", "uid=65534 nonblock"})...)
	return append(rows, cross("unprivileged user", refused, []string{"evil", "nobody", "evil2"}, []string{"{v4}", "{real4}", "127.0.0.1"}, []string{"uid=65534", "uid=65534 userns"})...)
}

// containers are behind a veth, behind a bridge and NAT, nested with a NAT of their
// own, and strays, which no hook sees. Of packets only those for virtual addresses are
// captured.
func containers() []row {
	ways := []string{"", "nonblock", "fastopen", "mptcp", "ring", "userns"}
	var rows []row
	for _, name := range []string{"box", "dock", "box2"} {
		virtual, real := virtuals(), []string{"{real4}", "[{real6}]", "{host1}", "127.0.0.1", "{gate " + name + "}"}
		if name == "box2" { // whose host doesn't forward
			virtual, real = hereVirtuals(), []string{"{real4}", "[{real6}]", "{second4}", "127.0.0.1", "{gate box2}"}
		}
		vector := map[string]string{"box": "container by veth", "dock": "container by bridge and NAT", "box2": "container on the service's node"}[name]
		rows = append(rows, cross(vector, "ok", []string{name + " app"}, virtual, ways)...)
		rows = append(rows, cross(vector, refused, []string{name + " worse", name + " nobody"}, virtual, ways)...)
		rows = append(rows, cross(vector, refused, []string{name + " app", name + " worse", name + " nobody"}, real, ways[:2])...)
		rows = append(rows, cross(vector, refused, []string{name + " worse"}, []string{virtual[0], "{real4}"}, []string{"mark=0x1000", "device=eth0", "enter={cgroup " + name + " app}", "pass={cgroup " + name + " app}"})...)
	}
	inner := []string{"inner worse", "inner nobody"}
	rows = append(rows, cross("nested namespace with NAT", refusedOrReset+"|ok", []string{"inner app"}, virtuals(), ways[:2])...)
	rows = append(rows, cross("nested namespace with NAT", refused, inner, append(virtuals(), "{real4}", "[{real6}]"), ways)...)
	rows = append(rows, cross("process outside of the hooked cgroups", refusedOrReset, []string{"stray", "inner stray"}, virtuals(), ways[:2])...)
	rows = append(rows, cross("process outside of the hooked cgroups", refusedOrReset, []string{"stray", "inner stray"}, []string{"{real4}", "[{real6}]", "{second4}"}, ways[:2])...)
	rows = append(rows, cross("process outside of the hooked cgroups", refusedOrReset, []string{"stray2"}, append(hereVirtuals(), "{real4}", "[{real6}]", "{second4}", "{gate stray2}"), ways[:2])...)
	empty := []string{"{v4}", "{real4}", "127.0.0.1"}
	rows = append(rows, cross("new network namespace without interfaces", "connect: ENETUNREACH|"+refused, []string{"web", "evil", "nobody"}, empty, []string{"userns netns"})...)
	return append(rows, cross("new network namespace without interfaces", "connect: ENETUNREACH|connect: EADDRNOTAVAIL|"+refused, deniedHere(), append(empty, "[::1]"), []string{"userns netns"})...)
}

// packetRows are hand-made TCP segments, which no socket hook sees. The node that
// they reach answers with a reset or not at all.
func packetRows() []row {
	const shut = "reset|silence"
	rows := cross("raw sockets", "reset", []string{"nobody", "evil"}, []string{"{real4}"}, []string{"raw={host1}"})
	rows = append(rows, cross("raw sockets", shut, []string{"nobody"}, []string{"{real4}"}, []string{"raw={host1} mark=0x1000"})...)
	rows = append(rows, cross("raw sockets", "reset", []string{"nobody"}, []string{"[{real6}]"}, []string{"raw={host1 6}"})...)
	rows = append(rows, cross("raw sockets", "reset", []string{"outside"}, []string{"{real4}", "{real4}:{shut}", "{second4}"}, []string{"raw={outside}"})...)
	rows = append(rows, cross("raw sockets", "reset", []string{"outside"}, []string{"[{real6}]", "[{second6}]"}, []string{"raw={outside6}"})...)
	rows = append(rows, cross("raw sockets on the service's node", shut, deniedHere(), []string{"127.0.0.1", "{real4}"}, []string{"raw=127.0.0.1", "raw={real4}"})...)
	rows = append(rows, cross("raw sockets on the service's node", shut, deniedHere(), []string{"[::1]"}, []string{"raw=::1"})...)
	rows = append(rows, cross("raw sockets on the service's node", shut, deniedHere(), []string{"[::1]", "[{real6}]"}, []string{"forge=2001:db8::7"})...)
	rows = append(rows, cross("raw sockets on the service's node", shut, deniedHere(), []string{"127.0.0.1", "{real4}"}, []string{"forge={outside}"})...)
	for _, from := range []string{"outside", "nobody"} { // the first two vectors show that frames arrive at all
		own := map[string]string{"outside": "{outside}", "nobody": "{host1}"}[from]
		own6 := map[string]string{"outside": "{outside6}", "nobody": "{host1 6}"}[from]
		sources := []string{own, "127.0.0.1", "{real4}", "{second4}", "{here4}", "{unused}", "{box2}"}
		rows = append(rows, cross("packet sockets", "reset", []string{from}, []string{"{real4}"}, []string{"frame=" + own + " mac={mac2}"})...)
		rows = append(rows, cross("packet sockets", "reset", []string{from}, []string{"[{real6}]"}, []string{"frame=" + own6 + " mac={mac2}"})...)
		for _, source := range sources {
			rows = append(rows, cross("packet sockets", shut, []string{from}, []string{"{real4}", "127.0.0.1", "{here4}", "{v4}"}, []string{"frame=" + source + " mac={mac2}"})...)
		}
		for _, source := range []string{own6, "::1", "{real6}", "{here6}"} {
			rows = append(rows, cross("packet sockets", shut, []string{from}, []string{"[{real6}]", "[::1]", "[{here6}]"}, []string{"frame=" + source + " mac={mac2}"})...)
		}
	}
	return rows
}

// files are the daemon's, opened by an unprivileged user.
func files() []row {
	return free(cross("the daemon's files and sockets", "open: EACCES", []string{"nobody"}, []string{"0.0.0.0:0"},
		[]string{"uid=65534 open={state}/state.db", "uid=65534 open={bpf}", "uid=65534 open={bpf}/settings"}))
}
