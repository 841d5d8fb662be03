// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"tacit/bpf/pinfs"
)

// TestCarry: entries survive other capacities, and values that have grown or shrink back;
// what can't be carried over is refused, and the pin stays what it was.
func TestCarry(t *testing.T) {
	must(t, rlimit.RemoveMemlock())
	hash := ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 4}
	for name, tc := range map[string]struct {
		old    ebpf.MapSpec
		change func(*ebpf.MapSpec)
		value  []byte // of the one entry
		want   []byte // nil: refused
		same   bool   // the pinned map is used
		keep   bool
	}{
		"as it was":       {old: hash, value: []byte("12345678"), want: []byte("12345678"), same: true},
		"larger":          {old: hash, change: func(m *ebpf.MapSpec) { m.MaxEntries = 9 }, value: []byte("12345678"), want: []byte("12345678")},
		"smaller":         {old: hash, change: func(m *ebpf.MapSpec) { m.MaxEntries = 1 }, value: []byte("12345678"), want: []byte("12345678")},
		"grown":           {old: hash, change: func(m *ebpf.MapSpec) { m.ValueSize = 12 }, value: []byte("12345678"), want: []byte("12345678\x00\x00\x00\x00")},
		"back":            {old: hash, change: func(m *ebpf.MapSpec) { m.ValueSize = 4 }, value: []byte("1234\x00\x00\x00\x00"), want: []byte("1234")},
		"back, and used":  {old: hash, change: func(m *ebpf.MapSpec) { m.ValueSize = 4 }, value: []byte("1234\x00\x00\x00\x01")},
		"another key":     {old: hash, change: func(m *ebpf.MapSpec) { m.KeySize = 8 }, value: []byte("12345678")},
		"another type":    {old: hash, change: func(m *ebpf.MapSpec) { m.Type = ebpf.Array }, value: []byte("12345678")},
		"of live sockets": {old: hash, change: func(m *ebpf.MapSpec) { m.MaxEntries = 9 }, value: []byte("12345678"), keep: true},
		"settings that grew": {old: ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1},
			change: func(m *ebpf.MapSpec) { m.ValueSize = 8 }, value: []byte("1234"), want: []byte("1234\x00\x00\x00\x00")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "pins")
			must(t, pinfs.Ensure(dir))
			t.Cleanup(func() { must(t, pinfs.Remove(dir)) })
			old, err := ebpf.NewMap(&tc.old)
			must(t, err)
			defer old.Close()
			must(t, old.Pin(filepath.Join(dir, "m")))
			t.Cleanup(func() { _ = old.Unpin() })
			must(t, old.Put(uint32(0), tc.value))
			now := tc.old
			now.Pinning = ebpf.PinByName
			if tc.change != nil {
				tc.change(&now)
			}
			var keep []string
			if tc.keep {
				keep = []string{"m"}
			}
			made, err := Carry(&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{"m": &now, "unknown": {Pinning: ebpf.PinByName}}}, dir, keep...)
			if tc.want == nil {
				if !errors.Is(err, ebpf.ErrMapIncompatible) {
					t.Errorf("%v, want it refused", err)
				}
				return
			}
			must(t, err)
			defer made.Close()
			m := made["m"]
			if tc.same != (m == nil) || len(made) > 1 {
				t.Fatalf("made %v", made)
			}
			if tc.same {
				m = old
			}
			if got, err := m.LookupBytes(uint32(0)); err != nil || string(got) != string(tc.want) {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// TestTooMany: a map that can't hold all entries is refused.
func TestTooMany(t *testing.T) {
	must(t, rlimit.RemoveMemlock())
	dir := filepath.Join(t.TempDir(), "pins")
	must(t, pinfs.Ensure(dir))
	t.Cleanup(func() { must(t, pinfs.Remove(dir)) })
	old, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8})
	must(t, err)
	defer old.Close()
	must(t, old.Pin(filepath.Join(dir, "m")))
	t.Cleanup(func() { _ = old.Unpin() })
	for i := range uint32(8) {
		must(t, old.Put(i, i))
	}
	small := &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 4, Pinning: ebpf.PinByName}
	if _, err := Carry(&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{"m": small}}, dir); !errors.Is(err, ebpf.ErrMapIncompatible) {
		t.Errorf("%v, want it refused", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
