// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// CountCalls counts the system calls that processes of cgroups, given by their
// paths, begin until count is called, which returns the number. Processes aren't
// stopped for it, as strace would, so that they do what they do otherwise.
func CountCalls(t testing.TB, cgroups []string) (count func() uint64) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "calls", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: uint32(max(1, len(cgroups)))})
	Must(t, err)
	for _, path := range cgroups {
		info, err := os.Stat(path)
		Must(t, err)
		Must(t, m.Put(info.Sys().(*syscall.Stat_t).Ino, uint64(0))) // the inode is the cgroup's number
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "count_calls", Type: ebpf.RawTracepoint, License: "GPL", Instructions: countCall(m)})
	Must(t, err)
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: p})
	Must(t, err)
	return func() uint64 {
		t.Helper()
		Must(t, errors.Join(l.Close(), p.Close()))
		defer m.Close()
		var key, value, sum uint64
		entries := m.Iterate()
		for entries.Next(&key, &value) {
			sum += value
		}
		Must(t, entries.Err())
		return sum
	}
}

// countCall adds one to the entry of the caller's cgroup, where there is one.
func countCall(m *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.FnGetCurrentCgroupId.Call(),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	}
}
