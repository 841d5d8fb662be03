// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"tacit/internal/testhost"
)

// findPlaces fills in what rows write in braces. {v4} is db's virtual address
// as host1 has it, {here4} as host2, where db runs, has it: each node has
// numbers of its own.
func (b *bed) findPlaces() {
	b.t.Helper()
	pairs := []string{
		"{host1}", b.host1.Addr.String(), "{outside}", b.outside.Addr.String(), "{outside6}", b.outside.Addr6.String(),
		"{real4}", b.host2.Addr.String(), "{real6}", b.host2.Addr6.String(), "{host1 6}", b.host1.Addr6.String(),
		"{second4}", second(b.host2.Addr).String(), "{second6}", second(b.host2.Addr6).String(),
		"{nowhere}", elsewhere(b.host2.Addr).String(), "{link6}", b.linkLocal(b.host2), "{prefix}", prefix(b.host2.Addr),
		"{mac1}", b.mac(b.host1), "{mac2}", b.mac(b.host2),
		"{port}", fmt.Sprint(servicePort), "{mptcp}", fmt.Sprint(mptcpPort), "{shut}", fmt.Sprint(shutPort), "{lab}", fmt.Sprint(labPort), "{plain}", fmt.Sprint(plainPort),
		"{daemon1}", b.host1.CgroupPath("tacit/daemon"), "{daemon2}", b.host2.CgroupPath("tacit/daemon"),
		"{run}", b.host1.RunDir, "{state}", b.host1.State, "{bpf}", b.host1.BPF, "{cert}", filepath.Join(b.outside.Dir, "foreign.pem"),
	}
	for _, p := range []struct {
		h                     *testhost.Host
		service, name4, name6 string
	}{{b.host1, "db", "{v4}", "{v6}"}, {b.host2, "db", "{here4}", "{here6}"}, {b.host1, "mp", "{mp4}", "{mp6}"}, {b.host1, "shut", "{shut4}", "{shut6}"}, {b.host2, "shut", "{here shut4}", "{here shut6}"},
		{b.host1, "lab", "{lab4}", "{lab6}"}, {b.host2, "lab", "{here lab4}", "{here lab6}"}} {
		v4, v6 := b.virtual(p.h, p.service)
		pairs = append(pairs, p.name4, v4, p.name6, v6)
	}
	for name, box := range b.boxes {
		pairs = append(pairs, "{"+name+"}", box.Addr.String(), "{gate "+name+"}", box.Addr.Prev().String())
	}
	for name, c := range b.callers {
		pairs = append(pairs, "{cgroup "+name+"}", c.host.CgroupPath(c.cgroup))
	}
	pairs = append(pairs, "{veth box}", strings.Fields(b.gateway(b.host1, b.boxes["box"].Addr))[0])
	b.words = strings.NewReplacer(pairs...)
	for _, from := range []string{"web", "box app", "dock app", "box2 app"} { // a container's cgroup is found after its first program
		if way() != nil && from != "web" {
			continue // no identity in containers
		}
		to := map[string]string{"box2 app": "{here4}:{port}"}[from]
		if to == "" {
			to = "{v4}:{port}"
		}
		eventually(b.t, "db answers "+from, "ok", func() string { return b.attempt(from, "WARM", to, "") })
	}
}

// elsewhere is an address of the same network that nobody has.
func elsewhere(a netip.Addr) netip.Addr {
	bytes := a.AsSlice()
	bytes[len(bytes)-1] = 77
	other, _ := netip.AddrFromSlice(bytes)
	return other
}

// prefix is an IPv4 address as it is written in IPv6: 6to4's.
func prefix(a netip.Addr) string {
	x := a.As4()
	return fmt.Sprintf("%02x%02x:%02x%02x", x[0], x[1], x[2], x[3])
}

func (b *bed) mac(h *testhost.Host) string {
	b.t.Helper()
	return b.sh(h, `ip -o link show eth0 | sed 's,.*link/ether \([0-9a-f:]*\).*,\1,'`)
}

func (b *bed) linkLocal(h *testhost.Host) string {
	b.t.Helper()
	return b.sh(h, "ip -6 -o addr show dev eth0 scope link | awk '{print $4}' | cut -d/ -f1")
}
