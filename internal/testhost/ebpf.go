// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Pin is the path of a pinned object of the host's daemon.
func (h *Host) Pin(name string) string { return filepath.Join(h.BPF, name) }

// Detach detaches a pinned link, as `bpftool link detach` does.
func (h *Host) Detach(t testing.TB, pin string) {
	t.Helper()
	l, err := link.LoadPinnedLink(h.Pin(pin), nil)
	Must(t, err)
	Must(t, errors.Join(l.Detach(), l.Close()))
}

// Swap replaces the program of a pinned link with one that lets everything pass.
func (h *Host) Swap(t testing.TB, pin, hook string) {
	t.Helper()
	p := program(t, hook, pass())
	l, err := link.LoadPinnedLink(h.Pin(pin), nil)
	Must(t, err)
	Must(t, errors.Join(l.Update(p), l.Close(), p.Close()))
}

// Freeze keeps everybody but programs from writing to a pinned map.
func (h *Host) Freeze(t testing.TB, pin string) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(h.Pin(pin), nil)
	Must(t, err)
	Must(t, errors.Join(m.Freeze(), m.Close()))
}

// Empty deletes every entry of a pinned map, or zeroes them in an array.
func (h *Host) Empty(t testing.TB, pin string) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(h.Pin(pin), nil)
	Must(t, err)
	defer m.Close()
	var keys [][]byte
	key, err := m.NextKeyBytes(nil)
	for ; err == nil && key != nil; key, err = m.NextKeyBytes(key) {
		keys = append(keys, key)
	}
	Must(t, err)
	for _, key := range keys {
		if m.Type() == ebpf.Array {
			err = m.Put(key, make([]byte, m.ValueSize()))
		} else {
			err = m.Delete(key)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatalf("emptying %s: %v", pin, err)
		}
	}
}

// Contents are all keys and values of a pinned map, nil for what is no such map.
func (h *Host) Contents(t testing.TB, pin string) (all []byte) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(h.Pin(pin), nil)
	if err != nil {
		return nil
	}
	defer m.Close()
	key, err := m.NextKeyBytes(nil)
	for ; err == nil && key != nil; key, err = m.NextKeyBytes(key) {
		value, _ := m.LookupBytes(key) // gone meanwhile
		all = append(append(all, key...), value...)
	}
	return all
}

// Entries is how many entries the daemon's pinned maps have, by name, where a map
// has a number of them that changes.
func (h *Host) Entries(t testing.TB) map[string]int {
	t.Helper()
	pins, err := os.ReadDir(h.BPF)
	Must(t, err)
	entries := map[string]int{}
	for _, pin := range pins {
		m, err := ebpf.LoadPinnedMap(h.Pin(pin.Name()), nil)
		if err != nil {
			continue // a program or a link
		}
		if m.Type() == ebpf.Hash || m.Type() == ebpf.LRUHash {
			entries[pin.Name()] = 0
			key, err := m.NextKeyBytes(nil)
			for ; err == nil && key != nil; key, err = m.NextKeyBytes(key) {
				entries[pin.Name()]++
			}
		}
		m.Close()
	}
	return entries
}

// ThirdParty is what an eBPF program that isn't tacit's does at one of the hooks
// connect4, connect6, sendmsg4 and sendmsg6.
type ThirdParty string

// Rewriting changes 240.0.0.0/8 to 127.0.0.1 and is for IPv4 hooks only.
const (
	Passing   ThirdParty = "passing"
	Refusing  ThirdParty = "refusing"
	Rewriting ThirdParty = "rewriting"
)

// AttachThirdParty attaches a program that isn't tacit's to the host's cgroup;
// undo detaches it.
func (h *Host) AttachThirdParty(t testing.TB, hook string, what ThirdParty) (undo func()) {
	t.Helper()
	p := program(t, hook, map[ThirdParty]asm.Instructions{Passing: pass(), Refusing: refuse(), Rewriting: rewrite()}[what])
	l, err := link.AttachCgroup(link.CgroupOptions{Path: h.Cgroup, Attach: attachType(hook), Program: p})
	if err != nil {
		t.Fatalf("attaching to %s: %v", h.Cgroup, err)
	}
	Must(t, p.Close())
	return func() { Must(t, l.Close()) }
}

func attachType(hook string) ebpf.AttachType {
	return map[string]ebpf.AttachType{
		"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
		"sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "sendmsg6": ebpf.AttachCGroupUDP6Sendmsg,
	}[hook]
}

func program(t testing.TB, hook string, code asm.Instructions) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "third_party", Type: ebpf.CGroupSockAddr, AttachType: attachType(hook), License: "GPL", Instructions: code})
	if err != nil {
		t.Fatal(fmt.Errorf("loading a program: %w", err))
	}
	return p
}

func pass() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
}

func refuse() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
}

// rewrite changes user_ip4 of struct bpf_sock_addr, which is in network order.
func rewrite() asm.Instructions {
	const userIP4 = 4
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
		asm.And.Imm(asm.R2, 0xff),
		asm.JNE.Imm(asm.R2, 240, "end"),
		asm.Mov.Imm32(asm.R2, 0x0100007f),
		asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("end"),
		asm.Return(),
	}
}

// Serves reports where the host's kernel map leads calls to any service's port: to
// an instance here, elsewhere, or both. The layout is that of struct port_key and
// struct port_value in bpf/types.h.
func (h *Host) Serves(t testing.TB, port uint16) (here, elsewhere bool) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(h.Pin("ports"), nil)
	Must(t, err)
	defer m.Close()
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if binary.BigEndian.Uint16(key[4:]) == port {
			here = here || binary.NativeEndian.Uint16(value[16:]) != 0
			elsewhere = elsewhere || binary.NativeEndian.Uint32(value[20:]) != 0
		}
	}
	return here, elsewhere
}
