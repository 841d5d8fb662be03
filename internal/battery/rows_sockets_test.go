// SPDX-License-Identifier: Apache-2.0

package battery

// sockets: unusual ways to make a socket or to connect it.
func sockets() []row {
	ways := []string{"fastopen", "fastopen-connect", "mptcp", "mptcp nonblock", "mark=0x1000", "mark=1", "userns", "cgroupns"}
	var rows []row
	for _, with := range ways {
		rows = append(rows, cross(with, "ok", []string{"web"}, all(), []string{with})...)
		rows = append(rows, cross(with, lazy, denied(), all(), []string{with})...)
		rows = append(rows, cross(with, lazy, []string{"outside"}, all()[3:], []string{with})...)
	}
	rows = append(rows, cookies()...)
	rows = append(rows, devices()...)
	rows = append(rows, cross("own source address", "ok", []string{"web"}, []string{"{v4}"}, []string{"source=240.64.0.9", "source={host1}"})...)
	rows = append(rows, cross("own source address", refused, denied(), []string{"{v4}", "{real4}"}, []string{"source=240.64.0.9", "source={host1}"})...)
	return append(rows, mptcp()...)
}

// cookies: with a cookie, the first bytes leave with the SYN.
func cookies() []row {
	const vector = "fastopen with a cookie"
	four, six := []string{"fastopen cookie={real4}:{plain}", "fastopen-connect cookie={real4}:{plain}"}, []string{"fastopen cookie=[{real6}]:{plain}"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{v4}", "{real4}"}, four)
	rows = append(rows, cross(vector, "ok", []string{"web"}, []string{"[{v6}]", "[{real6}]"}, six)...)
	callers := []string{"evil", "nobody", "outside"}
	rows = append(rows, cross(vector, lazy, callers, []string{"{real4}", "{real4}:{shut}"}, four)...)
	rows = append(rows, cross(vector, lazy, callers, []string{"[{real6}]"}, six)...)
	rows = append(rows, cross(vector, refused, deniedHere(), []string{"{real4}", "127.0.0.1"}, []string{"fastopen cookie=127.0.0.1:{plain}"})...)
	without := []string{"fastopen no-cookie", "fastopen-connect no-cookie"}
	rows = append(rows, cross("fastopen without need of a cookie", "ok", []string{"web"}, all(), without)...)
	rows = append(rows, cross("fastopen without need of a cookie", lazy, denied(), all(), without)...)
	return append(rows, cross("fastopen without need of a cookie", lazy, []string{"outside"}, reals(), without)...)
}

// devices: a socket bound to one goes round the routes.
func devices() []row {
	const vector = "bound to a device"
	targets := all()[:4]
	rows := cross(vector, "ok", []string{"web"}, targets, []string{"device=lo"})
	rows = append(rows, cross(vector, refused, []string{"web"}, targets, []string{"device=eth0"})...)
	rows = append(rows, cross(vector, refused, denied(), all(), []string{"device=eth0"})...)
	rows = append(rows, cross(vector, refused, denied(), targets, []string{"device=lo"})...)
	late := []string{"limit=1 device-late=eth0", "limit=1 device-between=eth0", "limit=1 nonblock device-between=eth0"}
	rows = append(rows, cross("bound to a device late", either+"|device: EINVAL|device: EPERM", []string{"web"}, []string{"{lab4}:{lab}", "[{lab6}]:{lab}", "[::ffff:{lab4}]:{lab}"}, late)...)
	rows = append(rows, cross("bound to a device late", either+"|device: EINVAL|device: EPERM", []string{"web2"}, []string{"{here lab4}:{lab}", "[{here lab6}]:{lab}", "127.0.0.1:{lab}", "[::1]:{lab}"}, late)...)
	return append(rows, cross("bound to a device late", refused, []string{"evil", "evil2"}, []string{"{v4}", "{real4}", "[{real6}]"}, late)...)
}

// mptcp: a service whose own listener speaks it.
func mptcp() []row {
	const vector = "MPTCP listener"
	ways := []string{"", "mptcp", "mptcp times=5"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{mp4}:{mptcp}", "[{mp6}]:{mptcp}", "{real4}:{mptcp}"}, ways)
	rows = append(rows, killedAs("ok", cross(vector, "ok", []string{"web2"}, []string{"127.0.0.1:{mptcp}", "[::1]:{mptcp}"}, ways))...)
	rows = append(rows, cross(vector, refused, denied(), []string{"{mp4}:{mptcp}", "{real4}:{mptcp}", "[{real6}]:{mptcp}"}, ways[:2])...)
	rows = append(rows, cross(vector, refused, deniedHere(), []string{"127.0.0.1:{mptcp}", "{real4}:{mptcp}"}, ways[:2])...)
	return append(rows, cross(vector, refused, []string{"outside"}, []string{"{real4}:{mptcp}", "[{real6}]:{mptcp}"}, ways[:2])...)
}

// rings: io_uring makes and connects sockets, by itself, by its workers, and by its polling thread.
func rings() []row {
	var rows []row
	for _, with := range []string{"ring", "ring=async", "ring=sqpoll", "ring ring-socket", "ring=sqpoll ring-socket", "ring fastopen", "ring=async fastopen", "ring fastopen cookie={real4}:{plain}"} {
		rows = append(rows, cross("io_uring", "ok", []string{"web"}, []string{"{v4}", "[{v6}]", "{real4}"}, []string{with})...)
		rows = append(rows, cross("io_uring", lazy, denied(), []string{"{v4}", "[{v6}]", "{real4}", "[{real6}]"}, []string{with})...)
	}
	return append(rows, cross("io_uring", refused, []string{"outside"}, []string{"{real4}"}, []string{"ring"})...)
}

// options: socket options that steer, and kinds of sockets that aren't TCP's own.
func options() []row {
	rows := twice()
	for _, with := range []string{"unicast-if=eth0", "dontroute", "ulp=tls", "ulp=mptcp", "smc"} {
		rows = append(rows, cross(with, "ok|socket: EAFNOSUPPORT|socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT", []string{"web"}, []string{"{v4}", "[{v6}]"}, []string{with})...)
		rows = append(rows, cross(with, refused+"|socket: EAFNOSUPPORT|socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT", denied(), []string{"{v4}", "{real4}", "[{real6}]"}, []string{with})...)
	}
	rows = append(rows, cross("flow label", "ok", []string{"web"}, []string{"[{v6}]"}, []string{"flow"})...)
	rows = append(rows, cross("flow label", refused, denied(), []string{"[{v6}]", "[{real6}]"}, []string{"flow"})...)
	rows = append(rows, cross("scope of an address", "ok", []string{"web"}, []string{"[{v6}%lo]", "[{v6}%eth0]"}, []string{""})...)
	rows = append(rows, cross("scope of an address", refused, denied(), []string{"[{v6}%eth0]", "[{real6}%eth0]", "[{real6}%lo]"}, []string{""})...)
	none := "socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT|socket: EINVAL|" + refused
	rows = append(rows, cross("SCTP, DCCP", none, []string{"web", "evil"}, []string{"{v4}", "{real4}"}, []string{"protocol=132", "protocol=33 kind=6"})...)
	rows = append(rows, sourceRoutes()...)
	rows = append(rows, cross("TCP_REPAIR", gone+"|recv: timeout|closed late|send: ECONNREFUSED|recv: ECONNREFUSED", []string{"evil", "nobody", "evil2"}, []string{"{v4}", "{real4}", "[{real6}]"}, []string{"repair"})...)
	rows = append(rows, cross("IP_TRANSPARENT source", refused, denied(), []string{"{v4}", "{real4}"}, []string{"transparent source={outside}", "transparent source={real4}#8000"})...)
	rows = append(rows, cross("IP_TRANSPARENT source", refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, []string{"transparent source={outside}"})...)
	return append(rows, cross("connect to oneself", nowhere+"|bind: EADDRINUSE|bind: EACCES", deniedHere(), []string{"127.0.0.7", "{real4}"}, []string{"source=127.0.0.7#8000 reuseport", "source={real4}#8000 reuseport"})...)
}

// twice: connected elsewhere before, and let go by AF_UNSPEC.
func twice() []row {
	const vector = "connect, disconnect, connect"
	plain := []string{"twice={real4}:{plain}"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{v4}", "{real4}"}, plain)
	rows = append(rows, cross(vector, refused, denied(), []string{"{v4}", "{real4}"}, plain)...)
	form := []string{"addrform twice=[::ffff:{real4}]:{plain}"}
	rows = append(rows, cross("IPv6 socket turned into an IPv4 one", "ok", []string{"web"}, []string{"{v4}", "{real4}"}, form)...)
	rows = append(rows, cross("IPv6 socket turned into an IPv4 one", refused, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, form)...)
	rows = append(rows, cross("IPv6 socket turned into an IPv4 one", refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, form)...)
	rows = append(rows, killedAs("first: ECONNREFUSED", cross(vector, refused, []string{"web"}, []string{"{shut4}:{shut}", "{real4}:{shut}"}, []string{"twice={v4}:{port}", "twice={real4}:{port}"}))...)
	rows = append(rows, cross(vector, refused, []string{"web2"}, []string{"127.0.0.1:{shut}", "{here shut4}:{shut}"}, []string{"twice=127.0.0.1:{port}"})...)
	return append(rows, cross(vector, refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, []string{"twice=127.0.0.1:{plain}", "twice={outside}:{plain}"})...)
}

// sourceRoutes: the packet is addressed to the first stop, connect() to the last.
func sourceRoutes() []row {
	const vector = "source routes"
	stuck := gone + "|connect: timeout|connect: EHOSTUNREACH|connect: ENETUNREACH|connect: EPERM|srr: EINVAL|rthdr: EINVAL|rthdr: EPERM"
	rows := cross(vector, stuck+"|ok", []string{"web"}, []string{"{v4}", "{real4}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5"})
	rows = append(rows, cross(vector, stuck, denied(), []string{"{v4}", "{real4}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5"})...)
	rows = append(rows, cross(vector, stuck, deniedHere(), []string{"{real4}", "{outside}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5", "srr=127.0.0.1 limit=0.5"})...)
	rows = append(rows, cross(vector, stuck+"|ok", []string{"web"}, []string{"[{v6}]", "[{real6}]"}, []string{"rthdr={outside6} limit=0.5", "rthdr={real6} limit=0.5"})...)
	rows = append(rows, cross(vector, stuck, denied(), []string{"[{v6}]", "[{real6}]", "[{outside6}]"}, []string{"rthdr={outside6} limit=0.5", "rthdr={real6} limit=0.5"})...)
	return append(rows, cross(vector, stuck, deniedHere(), []string{"[{outside6}]", "[2001:db8::1]"}, []string{"rthdr=::1 limit=0.5", "rthdr={real6} limit=0.5"})...)
}

// datagrams: nothing carries them, and the program is told. Connecting alone is
// what a name look-up does to sort addresses, and no denial.
func datagrams() []row {
	callers := []string{"web", "evil", "nobody"}
	var rows []row
	for form, want := range map[string]string{
		"udp": "sendto: ECONNREFUSED", "udp=connected": "send: ECONNREFUSED|recv: ECONNREFUSED", "udp=sendmmsg": "sendmmsg: ECONNREFUSED",
		"udp=unspec": "sendto: ECONNREFUSED|sendto: EINVAL|sendto: EDESTADDRREQ|sendto: ENOTCONN", "udp=cork": "sendto: ECONNREFUSED", "udp=gso": "sendto: ECONNREFUSED|gso: EINVAL",
		"udp=pktinfo": "sendmsg: ECONNREFUSED|sendmsg: EINVAL", "udp=reconnected": "sendto: ECONNREFUSED", "udp=lite": "sendto: ECONNREFUSED|socket: EPROTONOSUPPORT|socket: ESOCKTNOSUPPORT",
		"udp=connect-only": "connected", "udp mark=0x1000": "sendto: ECONNREFUSED", "udp device=eth0": "sendto: ECONNREFUSED",
		"udp=connected device=eth0": "send: ECONNREFUSED|recv: ECONNREFUSED|send: EPERM|recv: timeout|connect: ECONNREFUSED",
	} {
		rows = append(rows, cross("datagrams", want, callers, virtuals(), []string{form})...)
	}
	rows = append(rows, cross("datagrams", "sendto: ECONNREFUSED", callers, []string{"{v4}"}, []string{"udp=4on6"})...)
	rows = append(rows, cross("datagrams", "sent", []string{"web", "nobody"}, []string{"{v4}", "[{v6}]"}, []string{"udp=raw"})...)
	rows = append(rows, cross("datagrams", "sendto: ECONNREFUSED", []string{"box app", "box worse", "dock nobody"}, virtuals(), []string{"udp"})...)
	rows = append(rows, cross("datagrams", "send: ECONNREFUSED|recv: ECONNREFUSED|send: EPERM", []string{"box app", "box worse", "dock nobody"}, virtuals(), []string{"udp=connected"})...)
	return append(rows, cross("ICMP", "sent|sendto: EPERM", []string{"web", "nobody"}, []string{"{v4}", "[{v6}]"}, []string{"icmp", "icmp device=eth0"})...)
}
