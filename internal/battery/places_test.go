// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"tacit/internal/testhost"
)

// fillPlaces defines the places, which rows write in braces. {v4} is db's virtual
// address on host1, {here4} that on host2, where db runs: each node has virtual
// addresses of its own. {real4} is host2's own address, {unused} nobody's.
func (f *fixture) fillPlaces() {
	f.t.Helper()
	pairs := []string{
		"{host1}", f.host1.Addr.String(), "{outside}", f.outside.Addr.String(), "{outside6}", f.outside.Addr6.String(),
		"{real4}", f.host2.Addr.String(), "{real6}", f.host2.Addr6.String(), "{host1 6}", f.host1.Addr6.String(),
		"{second4}", second(f.host2.Addr).String(), "{second6}", second(f.host2.Addr6).String(),
		"{unused}", unused(f.host2.Addr).String(), "{link6}", f.linkLocal(f.host2), "{prefix}", prefix(f.host2.Addr),
		"{mac1}", f.mac(f.host1), "{mac2}", f.mac(f.host2),
		"{port}", fmt.Sprint(servicePort), "{mptcp}", fmt.Sprint(mptcpPort), "{shut}", fmt.Sprint(shutPort), "{lab}", fmt.Sprint(labPort), "{six}", fmt.Sprint(sixPort), "{plain}", fmt.Sprint(plainPort),
		"{daemon1}", f.host1.CgroupPath("tacit/daemon"), "{daemon2}", f.host2.CgroupPath("tacit/daemon"),
		"{run}", f.host1.RunDir, "{state}", f.host1.State, "{bpf}", f.host1.BPF, "{cert}", filepath.Join(f.outside.Dir, "other-authority.pem"),
	}
	for _, p := range []struct {
		h                     *testhost.Host
		service, name4, name6 string
	}{{f.host1, "db", "{v4}", "{v6}"}, {f.host2, "db", "{here4}", "{here6}"}, {f.host1, "mp", "{mp4}", "{mp6}"}, {f.host1, "shut", "{shut4}", "{shut6}"}, {f.host2, "shut", "{here shut4}", "{here shut6}"},
		{f.host1, "lab", "{lab4}", "{lab6}"}, {f.host2, "lab", "{here lab4}", "{here lab6}"}, {f.host2, "six", "{here six4}", "{here six6}"}} {
		v4, v6 := p.h.Virtual(f.t, p.service)
		pairs = append(pairs, p.name4, v4.String(), p.name6, v6.String())
	}
	for name, box := range f.boxes {
		pairs = append(pairs, "{"+name+"}", box.Addr.String(), "{gate "+name+"}", box.Addr.Prev().String())
	}
	for name, c := range f.callers {
		pairs = append(pairs, "{cgroup "+name+"}", c.host.CgroupPath(c.cgroup))
	}
	pairs = append(pairs, "{veth box}", strings.Fields(f.gateway(f.host1, f.boxes["box"].Addr))[0])
	f.words = strings.NewReplacer(pairs...)
	for _, from := range []string{"web", "box app", "dock app", "box2 app"} { // tacit finds a container's cgroup only after its first program has started
		if redirectFlags() != nil && from != "web" {
			continue // with TPROXY programs in containers have no identity
		}
		to := map[string]string{"box2 app": "{here4}:{port}"}[from]
		if to == "" {
			to = "{v4}:{port}"
		}
		await(f.t, "db answers "+from, "ok", func() string { return f.attempt(from, "WARM", to, "") })
	}
}

// unused is an address of the same network that no host has.
func unused(a netip.Addr) netip.Addr {
	bytes := a.AsSlice()
	bytes[len(bytes)-1] = 77
	other, _ := netip.AddrFromSlice(bytes)
	return other
}

// prefix is an IPv4 address as hexadecimal digits, as in a 6to4 prefix.
func prefix(a netip.Addr) string {
	x := a.As4()
	return fmt.Sprintf("%02x%02x:%02x%02x", x[0], x[1], x[2], x[3])
}

func (f *fixture) mac(h *testhost.Host) string {
	f.t.Helper()
	return h.Sh(f.t, `ip -o link show eth0 | sed 's,.*link/ether \([0-9a-f:]*\).*,\1,'`)
}

func (f *fixture) linkLocal(h *testhost.Host) string {
	f.t.Helper()
	return h.Sh(f.t, "ip -6 -o addr show dev eth0 scope link | awk '{print $4}' | cut -d/ -f1")
}
