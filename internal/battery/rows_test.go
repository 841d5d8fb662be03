// SPDX-License-Identifier: Apache-2.0

package battery

const refused = "connect: ECONNREFUSED"

// cross makes rows of callers, targets and ways.
func cross(want string, callers, targets, ways []string) []row {
	var rows []row
	for _, from := range callers {
		for _, to := range targets {
			for _, with := range ways {
				rows = append(rows, row{name: from + " to " + to + " " + with, from: from, to: to + ":{port}", with: with, want: want})
			}
		}
	}
	return rows
}

// plain: what every program does.
func plain() []row {
	virtual, real := []string{"{v4}", "[{v6}]", "[::ffff:{v4}]"}, []string{"{real4}", "[::ffff:{real4}]", "[{real6}]", "{second4}", "[{second6}]"}
	ways := []string{"", "nonblock"}
	rows := cross("ok", []string{"web"}, append(virtual, real...), ways)
	rows = append(rows, cross(refused, []string{"evil", "nobody"}, append(virtual, real...), ways)...)
	return append(rows, cross(refused, []string{"outside"}, real, ways[:1])...)
}

// places: nobody listens on host1's own addresses; db's port there is no way to db.
func places() []row {
	return cross(refused, []string{"web", "evil", "nobody"},
		[]string{"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "127.0.0.9", "{host1}"}, []string{""})
}

func here() (virtual, loopback, real []string) {
	return []string{"{here4}", "[{here6}]", "[::ffff:{here4}]"},
		[]string{"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "127.0.0.9", "[::ffff:127.0.0.9]"},
		[]string{"{real4}", "[{real6}]", "[::ffff:{real4}]", "{second4}", "[{second6}]"}
}

// sameNode: callers on db's own node.
func sameNode() []row {
	virtual, loopback, real := here()
	rows := cross("ok", []string{"web2"}, virtual, []string{""})
	all := append(append(virtual, loopback...), real...)
	return append(rows, cross(refused, []string{"evil2", "nobody2"}, all, []string{"", "nonblock"})...)
}

// direct: to a service's own port on its own node nothing is carried, so that
// it goes on without the daemon.
func direct() []row {
	_, loopback, real := here()
	return cross("ok", []string{"web2", "db"}, append(loopback, real...), []string{"", "nonblock"})
}

// sockets: unusual ways to make a socket or to connect it.
func sockets() []row {
	all := []string{"{v4}", "[{v6}]", "[::ffff:{v4}]", "{real4}", "[{real6}]"}
	ways := []string{"fastopen", "fastopen-connect", "mptcp", "mptcp nonblock", "mark=0x1000", "userns"}
	rows := cross("ok", []string{"web"}, all, ways)
	rows = append(rows, cross(refused, []string{"evil", "nobody"}, all, ways)...)
	rows = append(rows, cross(refused, []string{"outside"}, all[3:], ways)...)
	rows = append(rows, cross("ok", []string{"web"}, all, []string{"device=lo"})...)
	rows = append(rows, cross(refused, []string{"web"}, all, []string{"device=eth0"})...)
	rows = append(rows, cross(refused, []string{"evil", "nobody"}, all, []string{"device=eth0"})...)
	rows = append(rows, cross(refused, []string{"evil", "nobody"}, all, []string{"device=lo"})...)
	rows = append(rows, cross("ok", []string{"web"}, all[:1], []string{"source=240.64.0.9"})...)
	rows = append(rows, cross(refused, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, []string{"source=240.64.0.9"})...)
	rows = append(rows, cross("reset", []string{"nobody", "evil"}, []string{"{real4}"}, []string{"raw={host1}"})...)
	return append(rows, cross("reset", []string{"outside"}, []string{"{real4}"}, []string{"raw={outside}"})...)
}

// datagrams: nothing carries them, and the program is told.
func datagrams() []row {
	virtual, callers := []string{"{v4}", "[{v6}]", "[::ffff:{v4}]"}, []string{"web", "evil", "nobody"}
	rows := cross("sendto: ECONNREFUSED", callers, virtual, []string{"udp"})
	return append(rows, cross("send: ECONNREFUSED|recv: ECONNREFUSED", callers, virtual, []string{"udp connected"})...)
}

// borders: sockets that cross from one workload to another.
func borders() []row {
	all := []string{"{v4}", "[{v6}]", "{real4}"}
	rows := cross("ok", []string{"web below"}, all, []string{""})
	rows = append(rows, cross(refused, []string{"evil below"}, all, []string{""})...)
	for _, ends := range [][2]string{{"web", "evil"}, {"evil", "web"}, {"web", "nobody"}, {"nobody", "web"}} {
		with := []string{"enter={cgroup " + ends[1] + "}", "exec={cgroup " + ends[1] + "}"}
		rows = append(rows, cross(refused, ends[:1], all, with)...)
		rows = append(rows, cross(refused, ends[1:], all, []string{"pass={cgroup " + ends[0] + "}"})...)
	}
	return rows
}

// namespaces: a container by veth, and a namespace without any way out.
func namespaces() []row {
	virtual, ways := []string{"{v4}", "[{v6}]", "[::ffff:{v4}]"}, []string{"", "nonblock", "fastopen"}
	rows := cross("ok", []string{"box app"}, virtual, ways)
	rows = append(rows, cross(refused, []string{"box worse", "box nobody"}, virtual, ways)...)
	rows = append(rows, cross(refused, []string{"box app", "box worse", "box nobody"}, []string{"{real4}", "{host1}", "127.0.0.1"}, ways)...)
	rows = append(rows, cross("connect: ENETUNREACH|"+refused, []string{"web"}, []string{"{v4}", "{real4}"}, []string{"userns netns"})...)
	return append(rows, cross(refused, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, []string{"userns netns"})...)
}
