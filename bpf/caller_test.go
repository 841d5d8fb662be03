// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net/netip"
	"testing"
)

// TestCallers: a caller is identified by its cgroup first, then by its network
// namespace, then by its user.
func TestCallers(t *testing.T) {
	h := newHost(t)
	h.proxy()
	there := h.elsewhere()
	h.serve(db, 5432, Port{Remote: true})
	h.ok(h.Users().Put(4711, web))
	h.ok(h.Workloads().Put(h.dir("other"), other))
	h.allow(Pair{web, db})
	judge := func(source uint32, want Reason, cgroup string, words ...string) {
		t.Helper()
		if out := h.do(cgroup, words...); out != refused {
			t.Errorf("%s %s: %s", cgroup, words, out)
		}
		if e := h.lastEvent(want); e.Pair.Source != source {
			t.Errorf("%s %s: source %d, want %d", cgroup, words, e.Pair.Source, source)
		}
	}
	if out := h.do("nobody", "as", "4711", "connect", db4); out != "ok "+db4 {
		t.Errorf("by user: %s", out)
	}
	judge(other, Default, "other", "as", "4711", "connect", db4)
	judge(0, Identity, "nobody", "as", "4712", "connect", db4)
	there(func() {
		cookie, err := netnsCookie()
		h.ok(err)
		h.ok(h.Namespaces().Put(cookie, other))
		judge(other, Default, "nobody", "as", "4711", "connect", db4)
	})
}

// TestExempt: the hooks leave excluded callers and targets alone, except at virtual
// addresses and the service ports of this node.
func TestExempt(t *testing.T) {
	h := newHost(t)
	h.proxy()
	h.listen("127.0.0.1:15432")
	run(t, "ip addr add 10.9.9.9/32 dev lo", "ip addr add fd99::9/128 dev lo nodad")
	h.listen("10.9.9.9:5432")
	h.listen("[fd99::9]:5432")
	h.serve(db, 5432, Port{Remote: true})
	h.ok(h.Guards().Put(port15432, Guard{Service: db}))
	for _, real := range []string{"10.9.9.9:5432", "[fd99::9]:5432"} {
		h.ok(h.Remotes().Put(netip.MustParseAddrPort(real), db))
	}
	tries := func(cgroup string, words []string, want ...string) {
		t.Helper()
		for i, target := range []string{"10.9.9.9:5432", "[fd99::9]:5432", db4, db6, "127.0.0.1:15432"} {
			expect := refused
			if i < len(want) && want[i] == "ok" {
				expect = "ok " + target
			}
			if out := h.do(cgroup, append(words, "connect", target)...); out != expect {
				t.Errorf("%s %s to %s: %s, want %s", cgroup, words, target, out, expect)
			}
		}
	}
	h.ok(h.Workloads().Put(h.dir("free"), Exempt))
	h.ok(h.Workloads().Put(h.dir("free/web"), web))
	h.ok(h.Users().Put(4711, Exempt))
	h.ok(h.SetExclusions(true))
	tries("nobody", nil)
	tries("free", nil, "ok", "ok")
	tries("free/below", nil, "ok", "ok")
	tries("free/web", nil)
	tries("web/free", nil)
	tries("nobody", []string{"as", "4711"}, "ok", "ok")
	tries("web", []string{"as", "4711"})
	h.ok(h.ExemptNets().Put(netip.MustParsePrefix("10.9.0.0/16"), 1))
	tries("web", nil, "ok")
	h.ok(h.ExemptNets().Put(netip.MustParsePrefix("fd99::/64"), 1))
	tries("nobody", nil, "ok", "ok")
	nets, err := h.ExemptNets().All()
	if err != nil || len(nets) != 2 || nets[netip.MustParsePrefix("10.9.0.0/16")] != 1 || nets[netip.MustParsePrefix("fd99::/64")] != 1 {
		t.Errorf("nets %v, %v", nets, err)
	}
	h.ok(h.ExemptNets().Delete(netip.MustParsePrefix("10.9.0.0/16")))
	tries("nobody", nil, "", "ok")
	h.ok(h.ExemptPorts().Put(5432, 1))
	tries("nobody", nil, "ok", "ok")
}

// TestQuota: connections that the daemon doesn't accept use up the share of their
// own source only, and connections that end return their entries.
func TestQuota(t *testing.T) {
	h := newHost(t)
	h.serve(db, 5432, Port{Remote: true})
	h.allow(Pair{web, db}, Pair{other, db})
	h.ok(h.Workloads().Put(h.dir("other"), other))
	v4, _ := h.proxy()
	s, err := h.readSettings()
	h.ok(err)
	s.Quota, s.Capacity = 2, 3
	h.ok(h.putSettings(s))
	for service, n := range map[uint32]uint64{web: 1, other: 0, 0: 1} {
		h.ok(h.mesh.Usage.Put(service, n))
	}
	for range 3 {
		if out := h.do("web", "connect", db4); out != "ok "+db4 {
			t.Errorf("within the share: %s", out)
		}
		h.ok(accept(t, v4).Close())
	}
	h.ok(h.mesh.Usage.Put(uint32(web), uint64(2)))
	h.ok(h.mesh.Usage.Put(uint32(0), uint64(2)))
	if out := h.do("web", "connect", db4); out != refused {
		t.Errorf("beyond its share: %s", out)
	}
	h.lastEvent(Limit)
	if out := h.do("other", "connect", db4); out != "ok "+db4 {
		t.Errorf("within another's share: %s", out)
	}
	if used, err := h.Usage(0); err != nil || used != 2 {
		t.Errorf("usage %d, %v", used, err)
	}
	h.ok(h.mesh.Usage.Put(uint32(0), uint64(3)))
	if out := h.do("other", "connect", db4); out != refused {
		t.Errorf("beyond the capacity: %s", out)
	}
}
