// SPDX-License-Identifier: Apache-2.0

package battery

// sockets are less common ways to make a socket or to connect it.
func sockets() []row {
	var rows []row
	for _, way := range []struct{ vector, with string }{
		{"MSG_FASTOPEN", "fastopen"}, {"TCP_FASTOPEN_CONNECT", "fastopen-connect"},
		{"MPTCP socket", "mptcp"}, {"MPTCP socket, non-blocking", "mptcp nonblock"},
		{"tacit's own SO_MARK", "mark=0x1000"}, {"another SO_MARK", "mark=1"},
		{"new user namespace", "userns"}, {"new cgroup namespace", "cgroupns"},
	} {
		rows = append(rows, cross(way.vector, "ok", []string{"web"}, all(), []string{way.with})...)
		rows = append(rows, cross(way.vector, refusedOnSend, denied(), all(), []string{way.with})...)
		rows = append(rows, cross(way.vector, refusedOnSend, []string{"outside"}, all()[3:], []string{way.with})...)
	}
	rows = append(rows, cookies()...)
	rows = append(rows, devices()...)
	rows = append(rows, cross("bind() to a source address", "ok", []string{"web"}, []string{"{v4}"}, []string{"source={host1}"})...)
	rows = append(rows, cross("bind() to a source address", refused, denied(), []string{"{v4}", "{real4}"}, []string{"source={host1}"})...)
	callers := append([]string{"web"}, denied()...)
	rows = append(rows, cross("bind() to a virtual address", "bind: EACCES", callers, []string{"{v4}", "{real4}"}, []string{"source=240.64.0.9", "transparent source=240.64.0.9"})...)
	rows = append(rows, cross("bind() to a virtual address", "bind: EACCES", deniedHere(), []string{"127.0.0.1", "{here4}"}, []string{"source=240.64.0.9", "transparent source=240.64.0.9"})...)
	return append(rows, mptcp()...)
}

// cookies: with a TCP Fast Open cookie, or without need of one, the SYN carries data.
func cookies() []row {
	const vector = "data in the SYN: TFO with a cookie"
	four, six := []string{"fastopen cookie={real4}:{plain}", "fastopen-connect cookie={real4}:{plain}"}, []string{"fastopen cookie=[{real6}]:{plain}"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{v4}", "{real4}"}, four)
	rows = append(rows, cross(vector, "ok", []string{"web"}, []string{"[{v6}]", "[{real6}]"}, six)...)
	callers := []string{"evil", "nobody", "outside"}
	rows = append(rows, cross(vector, refusedOnSend, callers, []string{"{real4}", "{real4}:{shut}"}, four)...)
	rows = append(rows, cross(vector, refusedOnSend, callers, []string{"[{real6}]"}, six)...)
	rows = append(rows, cross(vector, refused, deniedHere(), []string{"{real4}", "127.0.0.1"}, []string{"fastopen cookie=127.0.0.1:{plain}"})...)
	without := []string{"fastopen no-cookie", "fastopen-connect no-cookie"}
	rows = append(rows, cross("data in the SYN: TCP_FASTOPEN_NO_COOKIE", "ok", []string{"web"}, all(), without)...)
	rows = append(rows, cross("data in the SYN: TCP_FASTOPEN_NO_COOKIE", refusedOnSend, denied(), all(), without)...)
	return append(rows, cross("data in the SYN: TCP_FASTOPEN_NO_COOKIE", refusedOnSend, []string{"outside"}, reals(), without)...)
}

// devices: a socket bound to a device doesn't use the routes by lo.
func devices() []row {
	const vector = "SO_BINDTODEVICE"
	targets := all()[:4]
	rows := cross(vector, "ok", []string{"web"}, targets, []string{"device=lo"})
	rows = append(rows, cross(vector, refused, []string{"web"}, targets, []string{"device=eth0"})...)
	rows = append(rows, cross(vector, refused, denied(), all(), []string{"device=eth0"})...)
	rows = append(rows, cross(vector, refused, denied(), targets, []string{"device=lo"})...)
	late := []string{"limit=1 device-late=eth0", "limit=1 device-between=eth0", "limit=1 nonblock device-between=eth0"}
	rows = append(rows, cross("SO_BINDTODEVICE during or after connect()", okOrNot+"|device: EINVAL|device: EPERM", []string{"web"}, []string{"{lab4}:{lab}", "[{lab6}]:{lab}", "[::ffff:{lab4}]:{lab}"}, late)...)
	rows = append(rows, cross("SO_BINDTODEVICE during or after connect()", okOrNot+"|device: EINVAL|device: EPERM", []string{"web2"}, []string{"{here lab4}:{lab}", "[{here lab6}]:{lab}", "127.0.0.1:{lab}", "[::1]:{lab}"}, late)...)
	return append(rows, cross("SO_BINDTODEVICE during or after connect()", refused, []string{"evil", "evil2"}, []string{"{v4}", "{real4}", "[{real6}]"}, late)...)
}

// mptcp is a service whose listener is an MPTCP socket.
func mptcp() []row {
	const vector = "MPTCP listener"
	ways := []string{"", "mptcp", "mptcp times=5"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{mp4}:{mptcp}", "[{mp6}]:{mptcp}", "{real4}:{mptcp}"}, ways)
	rows = append(rows, killedAs("ok", cross(vector, "ok", []string{"web2"}, []string{"127.0.0.1:{mptcp}", "[::1]:{mptcp}"}, ways))...)
	rows = append(rows, cross(vector, refused, denied(), []string{"{mp4}:{mptcp}", "{real4}:{mptcp}", "[{real6}]:{mptcp}"}, ways[:2])...)
	rows = append(rows, cross(vector, refused, deniedHere(), []string{"127.0.0.1:{mptcp}", "{real4}:{mptcp}"}, ways[:2])...)
	return append(rows, cross(vector, refused, []string{"outside"}, []string{"{real4}:{mptcp}", "[{real6}]:{mptcp}"}, ways[:2])...)
}

// rings: io_uring makes and connects sockets, in the caller, in its workers and in its
// polling thread.
func rings() []row {
	var rows []row
	for _, with := range []string{"ring", "ring=async", "ring=sqpoll", "ring ring-socket", "ring=sqpoll ring-socket", "ring fastopen", "ring=async fastopen", "ring fastopen cookie={real4}:{plain}"} {
		rows = append(rows, cross("io_uring", "ok", []string{"web"}, []string{"{v4}", "[{v6}]", "{real4}"}, []string{with})...)
		rows = append(rows, cross("io_uring", refusedOnSend, denied(), []string{"{v4}", "[{v6}]", "{real4}", "[{real6}]"}, []string{with})...)
	}
	return append(rows, cross("io_uring", refused, []string{"outside"}, []string{"{real4}"}, []string{"ring"})...)
}

// options are socket options that change routing, and protocols other than TCP.
func options() []row {
	rows := twice()
	for _, way := range []struct{ vector, with string }{
		{"IP_UNICAST_IF", "unicast-if=eth0"}, {"SO_DONTROUTE", "dontroute"}, {"TCP_ULP tls", "ulp=tls"}, {"TCP_ULP mptcp", "ulp=mptcp"}, {"SMC socket", "smc"},
	} {
		rows = append(rows, cross(way.vector, "ok|socket: EAFNOSUPPORT|socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT", []string{"web"}, []string{"{v4}", "[{v6}]"}, []string{way.with})...)
		rows = append(rows, cross(way.vector, refused+"|socket: EAFNOSUPPORT|socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT", denied(), []string{"{v4}", "{real4}", "[{real6}]"}, []string{way.with})...)
	}
	rows = append(rows, cross("IPv6 flow label", "ok", []string{"web"}, []string{"[{v6}]"}, []string{"flow"})...)
	rows = append(rows, cross("IPv6 flow label", refused, denied(), []string{"[{v6}]", "[{real6}]"}, []string{"flow"})...)
	rows = append(rows, cross("IPv6 scope id", "ok", []string{"web"}, []string{"[{v6}%lo]", "[{v6}%eth0]"}, []string{""})...)
	rows = append(rows, cross("IPv6 scope id", refused, denied(), []string{"[{v6}%eth0]", "[{real6}%eth0]", "[{real6}%lo]"}, []string{""})...)
	none := "socket: ESOCKTNOSUPPORT|socket: EPROTONOSUPPORT|socket: EINVAL|" + refused
	rows = append(rows, cross("SCTP and DCCP", none, []string{"web", "evil"}, []string{"{v4}", "{real4}"}, []string{"protocol=132", "protocol=33 kind=6"})...)
	rows = append(rows, sourceRoutes()...)
	rows = append(rows, cross("TCP_REPAIR", refusedOrReset+"|recv: timeout|closed late|send: ECONNREFUSED|recv: ECONNREFUSED", []string{"evil", "nobody", "evil2"}, []string{"{v4}", "{real4}", "[{real6}]"}, []string{"repair"})...)
	rows = append(rows, cross("IP_TRANSPARENT with another source address", refused, denied(), []string{"{v4}", "{real4}"}, []string{"transparent source={outside}", "transparent source={real4}#8000"})...)
	rows = append(rows, cross("IP_TRANSPARENT with another source address", refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, []string{"transparent source={outside}"})...)
	return append(rows, cross("TCP self-connect", unreachable+"|bind: EADDRINUSE|bind: EACCES", deniedHere(), []string{"127.0.0.7", "{real4}"}, []string{"source=127.0.0.7#8000 reuseport", "source={real4}#8000 reuseport"})...)
}

// twice: the socket was connected to another address and disconnected by AF_UNSPEC.
func twice() []row {
	const vector = "second connect() after AF_UNSPEC"
	plain := []string{"twice={real4}:{plain}"}
	rows := cross(vector, "ok", []string{"web"}, []string{"{v4}", "{real4}"}, plain)
	rows = append(rows, cross(vector, refused, denied(), []string{"{v4}", "{real4}"}, plain)...)
	form := []string{"addrform twice=[::ffff:{real4}]:{plain}"}
	rows = append(rows, cross("IPV6_ADDRFORM (IPv6 socket turned into IPv4)", "ok", []string{"web"}, []string{"{v4}", "{real4}"}, form)...)
	rows = append(rows, cross("IPV6_ADDRFORM (IPv6 socket turned into IPv4)", refused, []string{"evil", "nobody"}, []string{"{v4}", "{real4}"}, form)...)
	rows = append(rows, cross("IPV6_ADDRFORM (IPv6 socket turned into IPv4)", refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, form)...)
	rows = append(rows, killedAs("first: ECONNREFUSED", cross(vector, refused, []string{"web"}, []string{"{shut4}:{shut}", "{real4}:{shut}"}, []string{"twice={v4}:{port}", "twice={real4}:{port}"}))...)
	rows = append(rows, cross(vector, refused, []string{"web2"}, []string{"127.0.0.1:{shut}", "{here shut4}:{shut}"}, []string{"twice=127.0.0.1:{port}"})...)
	return append(rows, cross(vector, refused, deniedHere(), []string{"127.0.0.1", "{real4}", "{here4}"}, []string{"twice=127.0.0.1:{plain}", "twice={outside}:{plain}"})...)
}

// sourceRoutes: the packet is sent to the first hop, connect() names the last one.
func sourceRoutes() []row {
	const vector = "source routing (IP_OPTIONS, IPV6_RTHDR)"
	notConnected := refusedOrReset + "|connect: timeout|connect: EHOSTUNREACH|connect: ENETUNREACH|connect: EPERM|srr: EINVAL|rthdr: EINVAL|rthdr: EPERM"
	rows := cross(vector, notConnected+"|ok", []string{"web"}, []string{"{v4}", "{real4}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5"})
	rows = append(rows, cross(vector, notConnected, denied(), []string{"{v4}", "{real4}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5"})...)
	rows = append(rows, cross(vector, notConnected, deniedHere(), []string{"{real4}", "{outside}"}, []string{"srr={outside} limit=0.5", "srr={real4} limit=0.5", "srr=127.0.0.1 limit=0.5"})...)
	rows = append(rows, cross(vector, notConnected+"|ok", []string{"web"}, []string{"[{v6}]", "[{real6}]"}, []string{"rthdr={outside6} limit=0.5", "rthdr={real6} limit=0.5"})...)
	rows = append(rows, cross(vector, notConnected, denied(), []string{"[{v6}]", "[{real6}]", "[{outside6}]"}, []string{"rthdr={outside6} limit=0.5", "rthdr={real6} limit=0.5"})...)
	return append(rows, cross(vector, notConnected, deniedHere(), []string{"[{outside6}]", "[2001:db8::1]"}, []string{"rthdr=::1 limit=0.5", "rthdr={real6} limit=0.5"})...)
}

// datagrams aren't carried, and the program gets an error. connect() alone succeeds:
// getaddrinfo() does it to sort addresses.
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
		rows = append(rows, cross("UDP", want, callers, virtuals(), []string{form})...)
	}
	rows = append(rows, cross("UDP", "sendto: ECONNREFUSED", callers, []string{"{v4}"}, []string{"udp=4on6"})...)
	rows = append(rows, cross("UDP", "sent", []string{"web", "nobody"}, []string{"{v4}", "[{v6}]"}, []string{"udp=raw"})...)
	rows = append(rows, cross("UDP", "sendto: ECONNREFUSED", []string{"box app", "box worse", "dock nobody"}, virtuals(), []string{"udp"})...)
	rows = append(rows, cross("UDP", "send: ECONNREFUSED|recv: ECONNREFUSED|send: EPERM", []string{"box app", "box worse", "dock nobody"}, virtuals(), []string{"udp=connected"})...)
	return append(rows, cross("ICMP echo request", "sent|sendto: EPERM", []string{"web", "nobody"}, []string{"{v4}", "[{v6}]"}, []string{"icmp", "icmp device=eth0"})...)
}
