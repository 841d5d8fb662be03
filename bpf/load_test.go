// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// TestLayout compares the sizes of the generated Go types with those in BTF.
func TestLayout(t *testing.T) {
	spec, err := loadMesh()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"config": meshConfig{}, "workload": meshWorkload{}, "pair": meshPair{}, "port_key": meshPortKey{},
		"port_value": meshPortValue{}, "guard_key": meshGuardKey{}, "guard_value": meshGuardValue{},
		"upstream_key": meshUpstreamKey{}, "upstream_value": meshUpstreamValue{}, "sock_state": meshSockState{},
		"origin_key": meshOriginKey{}, "origin": meshOrigin{}, "event": meshEvent{}, "endpoint": meshEndpoint{}, "address": meshAddress{},
	} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if size := binary.Size(want); size != int(s.Size) {
			t.Errorf("%s: %d bytes in Go, %d in C", name, size, s.Size)
		}
	}
	for name := range spec.Maps {
		if strings.HasPrefix(name, ".") {
			continue // a data section
		}
		if len(name) > 15 {
			t.Errorf("map name %s: the kernel cuts it to 15 bytes", name)
		}
		if spec.Maps[name].Pinning != ebpf.PinByName {
			t.Errorf("map %s isn't pinned: it would go when the daemon ends", name)
		}
	}
	for name := range spec.Programs {
		if len(name) > 15 {
			t.Errorf("program name %s: the kernel cuts it to 15 bytes", name)
		}
	}
}

// TestLoadTwiceIsLoadOnce: a second daemon takes over the maps, with the revision,
// and the links.
func TestLoadTwiceIsLoadOnce(t *testing.T) {
	h := newHost(t)
	h.allow(Pair{web, db})
	first, err := h.Bump()
	h.ok(err)
	ids := linkIDs(t, h.Objects)
	again, err := Load(h.conf)
	h.ok(err)
	defer again.Close()
	if rules, err := again.Intentions().All(); err != nil || !rules[Pair{web, db}] {
		t.Errorf("the intentions didn't survive: %v, %v", rules, err)
	}
	if rev, err := again.Revision(); err != nil || rev != first {
		t.Errorf("revision %d, %v; want %d", rev, err, first)
	}
	for name, id := range linkIDs(t, again) {
		if ids[name] != id && !strings.HasPrefix(name, "leaving") { // those are attached anew before the old ones are detached
			t.Errorf("%s was attached anew: connections went unjudged in between", name)
		}
	}
	expectHealthy(t, again)
}

func linkIDs(t *testing.T, o *Objects) map[string]uint32 {
	t.Helper()
	out := map[string]uint32{}
	for _, h := range o.links {
		info, err := h.link.Info()
		if err != nil {
			t.Fatal(err)
		}
		out[h.name] = uint32(info.ID)
	}
	return out
}

func expectHealthy(t *testing.T, o *Objects) {
	t.Helper()
	hooks, err := o.Status()
	if err != nil || len(hooks) != 19 {
		t.Fatalf("%d hooks, %v", len(hooks), err)
	}
	for _, h := range hooks {
		if h.Problem != "" {
			t.Errorf("%s: %s", h.Name, h.Problem)
		}
	}
}

// TestStatusSeesWhatIsMissing: Status reports a removed pin and a detached link, and
// the next Load repairs them.
func TestStatusSeesWhatIsMissing(t *testing.T) {
	h := newHost(t)
	h.ok(os.Remove(filepath.Join(h.conf.PinDir, "link_connect4")))
	h.ok(h.hook("connect6").link.Detach())
	bad := 0
	hooks, err := h.Status()
	h.ok(err)
	for _, hook := range hooks {
		if hook.Problem != "" {
			bad++
		}
	}
	if bad != 2 {
		t.Errorf("%d problems, want 2: %+v", bad, hooks)
	}
	again, err := Load(h.conf)
	h.ok(err)
	defer again.Close()
	expectHealthy(t, again)
}

// TestAnotherLayoutIsRefused: Load doesn't use a pinned map of another layout.
func TestAnotherLayoutIsRefused(t *testing.T) {
	h := bareHost(t)
	h.ok(os.Mkdir(h.conf.PinDir, 0o700))
	old, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	h.ok(err)
	defer old.Close()
	h.ok(old.Pin(filepath.Join(h.conf.PinDir, "intentions")))
	if _, err := Load(h.conf); !errors.Is(err, ErrLayout) {
		t.Errorf("got %v, want ErrLayout", err)
	}
}

// TestAnotherCapacity: a Load with other limits takes the entries over, and the pins;
// what is allowed is so all the time, what is denied as well, both ways. A map of live
// sockets can't change.
func TestAnotherCapacity(t *testing.T) {
	h := newHost(t)
	h.allow(Pair{web, db})
	before := h.Objects
	for _, n := range []uint32{1 << 10, 1 << 12, 0} {
		c := h.conf
		c.Limits.Intentions, c.Limits.Workloads = n, n
		o, err := Load(c)
		h.ok(err)
		defer o.Close()
		h.ok(before.LetGo())
		before = o
		if rules, err := o.Intentions().All(); err != nil || len(rules) != 1 || !rules[Pair{web, db}] {
			t.Errorf("%d: %v, %v", n, rules, err)
		}
		expectHealthy(t, o)
		if found := o.Repair(); len(found) > 0 {
			t.Errorf("%d: repaired %v, want nothing", n, found)
		}
	}
	c := h.conf
	c.Limits.Origins = 1 << 10
	if _, err := Load(c); !errors.Is(err, ErrLayout) {
		t.Errorf("got %v, want ErrLayout", err)
	}
}

// TestRetiredPin: a map that an earlier version pinned and this one doesn't
// have is no obstacle for Load, and Remove removes it.
func TestRetiredPin(t *testing.T) {
	h := bareHost(t)
	h.ok(os.Mkdir(h.conf.PinDir, 0o700))
	retired, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 4, MaxEntries: 1})
	h.ok(err)
	defer retired.Close()
	h.ok(retired.Pin(filepath.Join(h.conf.PinDir, "spared")))
	o, err := Load(h.conf)
	h.ok(err)
	expectHealthy(t, o)
	if found := o.Repair(); len(found) > 0 {
		t.Errorf("repaired: %v, want nothing", found)
	}
	h.ok(o.Close())
	h.ok(Remove(h.conf.PinDir))
}

// TestRemoveLeavesNothing, where Load had to mount a bpffs as well.
func TestRemoveLeavesNothing(t *testing.T) {
	h := bareHost(t)
	for _, dir := range []string{h.conf.PinDir, filepath.Join(t.TempDir(), "run", "pins")} {
		c := h.conf
		c.PinDir = dir
		o, err := Load(c)
		h.ok(err)
		h.ok(o.Close())
		if out := h.do("web", "connect", "240.64.0.2:5432"); out != "ECONNREFUSED" {
			t.Errorf("handles closed: %s, want ECONNREFUSED", out)
		}
		h.ok(Remove(dir))
		h.ok(Remove(dir))
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		ln := h.listen("240.64.0.2:5432")
		eventually(t, "the hooks are detached", func() bool {
			return h.do("web", "connect", "240.64.0.2:5432") == "ok 240.64.0.2:5432"
		})
		h.ok(ln.Close())
	}
}

// TestProbe: the programs load on this kernel.
func TestProbe(t *testing.T) {
	if err := Probe(); err != nil {
		t.Fatal(err)
	}
}
