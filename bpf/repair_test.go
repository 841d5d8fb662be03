// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func (h *host) hook(name string) *hook {
	for _, one := range h.links {
		if one.name == name {
			return one
		}
	}
	h.t.Fatalf("no hook %s", name)
	return nil
}

var testResolver = netip.MustParseAddr("10.1.1.1")

func (h *host) pin(name string) string { return filepath.Join(h.conf.PinDir, name) }

// allowAll is a program of somebody else that allows everything.
func allowAll(t testing.TB, attach ebpf.AttachType) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "allow_all", Type: ebpf.CGroupSockAddr, AttachType: attach, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// linkPinned pins the link that is pinned as from once more, as to.
func linkPinned(h *host, from, to string) error {
	l, err := link.LoadPinnedLink(h.pin(from), nil)
	if err != nil {
		return err
	}
	defer l.Close()
	again, err := linkAgain(l)
	if err != nil {
		return err
	}
	return errors.Join(again.Pin(h.pin(to)), again.Close())
}

// abandon moves the test out of the hooked cgroup and removes it.
func (h *host) abandon() {
	h.ok(os.WriteFile(filepath.Join(filepath.Dir(h.cgroup), "cgroup.procs"), []byte("0"), 0))
	removeCgroups(h.t, h.cgroup)
}

// TestRepair: each row breaks something. Repair says what it found and restores it,
// and the next Repair finds nothing.
func TestRepair(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(*host)
		want string // object: found
	}{
		{"a pin removed", func(h *host) { h.ok(os.Remove(h.pin("link_connect4"))) }, "hook connect4: unpinned"},
		{"detached by its pin", func(h *host) {
			l, err := link.LoadPinnedLink(h.pin("link_connect6"), nil)
			h.ok(err)
			h.ok(l.Detach())
			h.ok(l.Close())
		}, "hook connect6: detached"},
		{"detached from the namespace", func(h *host) { h.ok(h.hook("lookup").link.Detach()) }, "hook lookup: detached"},
		{"another program in the link", func(h *host) {
			h.ok(h.hook("connect4").link.Update(allowAll(h.t, ebpf.AttachCGroupInet4Connect)))
		}, "hook connect4: " + errOtherProgram.Error()},
		{"another link in place of the pin", func(h *host) {
			h.ok(os.Remove(h.pin("link_connect4")))
			h.ok(linkPinned(h, "link_connect6", "link_connect4"))
		}, "hook connect4: another object was pinned in its place"},
		{"a map unpinned", func(h *host) { h.ok(os.Remove(h.pin("intentions"))) }, "map intentions: unpinned"},
		{"settings overwritten", func(h *host) { h.ok(h.mesh.Settings.Put(uint32(0), meshConfig{})) }, "map settings: changed by others"},
		{"a listener taken out", func(h *host) { h.ok(h.mesh.Listeners.Delete(uint32(0))) }, "map listeners: changed by others"},
		{"a resolver taken out", func(h *host) { h.ok(h.resolvers().Delete(testResolver)) }, "map resolvers: changed by others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.proxy()
			h.ok(h.SetResolvers([]Resolver{{Addr: testResolver, Port4: 5353}}))
			h.Repair() // remembers the inodes of the pins
			begin := time.Now()
			if found := h.Repair(); len(found) > 0 {
				t.Errorf("nothing was changed, but Repair found %v", found)
			}
			t.Logf("Repair without a finding took %s", time.Since(begin))
			tt.harm(h)
			found := h.Repair()
			if len(found) != 1 || found[0].Err != nil || found[0].Object+": "+found[0].Found != tt.want {
				t.Errorf("found %v, want %s", found, tt.want)
			}
			expectHealthy(t, h.Objects)
			if again := h.Repair(); len(again) > 0 {
				t.Errorf("the next Repair found %v", again)
			}
			if out := h.do("nobody", "connect", "240.64.0.2:5432"); out != "ECONNREFUSED" {
				t.Errorf("connect: %s, want ECONNREFUSED", out)
			}
		})
	}
}

// TestRepairWithoutBPFFS: the bpffs was unmounted, and every pin with it.
func TestRepairWithoutBPFFS(t *testing.T) {
	h := newHost(t)
	h.Repair()
	above := filepath.Dir(h.conf.PinDir)
	h.ok(unix.Unmount(above, unix.MNT_DETACH))
	for _, f := range h.Repair() {
		if f.Err != nil || f.Found != "unpinned" {
			t.Errorf("%v, want unpinned", f)
		}
	}
	expectHealthy(t, h.Objects)
	if again := h.Repair(); len(again) > 0 {
		t.Errorf("the next Repair found %v", again)
	}
	h.ok(Remove(h.conf.PinDir))
	h.ok(unix.Mount("bpf", above, "bpf", 0, "")) // the cleanup of the test unmounts one
}

// TestRepairOnANewCgroup: the hooked cgroup was removed and made again. The links are
// still on the removed one, unless the kernel has let go of it already.
func TestRepairOnANewCgroup(t *testing.T) {
	h := newHost(t)
	h.abandon()
	found := h.Repair()
	for _, f := range found {
		if f.Err == nil {
			t.Errorf("without a cgroup: %v", f)
		}
	}
	if len(found) != len(h.links)-3 { // all but those of the network namespace
		t.Errorf("%d findings: %v", len(found), found)
	}
	h.ok(os.Mkdir(h.cgroup, 0o755))
	for _, f := range h.Repair() {
		if f.Err != nil || f.Found != ErrDying.Error() && f.Found != ErrDetached.Error() {
			t.Errorf("%v, want %v", f, ErrDying)
		}
	}
	expectHealthy(t, h.Objects)
}

// TestOthersAreShown: another program at the same hook is listed and is no problem.
func TestOthersAreShown(t *testing.T) {
	h := newHost(t)
	l, err := link.AttachCgroup(link.CgroupOptions{Path: h.cgroup, Attach: ebpf.AttachCGroupInet4Connect,
		Program: allowAll(t, ebpf.AttachCGroupInet4Connect)})
	h.ok(err)
	defer l.Close()
	hooks, err := h.Status()
	h.ok(err)
	for _, one := range hooks {
		want := 0
		if one.Name == "connect4" {
			want = 1
		}
		if one.Problem != "" || len(one.Others) != want {
			t.Errorf("%+v, want %d others", one, want)
		}
	}
}
