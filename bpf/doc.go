// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the eBPF programs and typed access to their maps. It knows
// numbers, addresses and cgroup ids. It must not know service names, policy, or
// what the numbers stand for: policy/kernel translates.
//
// Read the C files in this order: types.h (what C and Go share), maps.h,
// decide.h, source.h (who calls), listener.h (who listens), quota.h, resolve.h,
// call.h, seen.h, connect.h, direct.h, origins.h, lookup.h, names.h, egress.h, inner.h,
// leaving.h, unix.h, sweep.h, and mesh.c, which has only the entry points. Generated files are
// committed, so that a build needs no clang.
//
// # To add a map that policy fills
//
//  1. maps.h (and types.h for a new key or value struct): the map. Run go generate.
//  2. maps.go: a method of Objects that returns its Table.
//  3. policy/kernel/state.go: the field of State, also in equal.
//  4. policy/kernel: its line in registry.go, and in compile.go the method that
//     makes the contents.
//
// Reading at start, Apply, Verify, Room, pins and cleanup follow. Tests fail where
// a step is missing, until everything() in policy/kernel/registry_test.go fills the
// map, and until internal/endtoend/testdata/plan.golden lists its pin. A map that
// only this package or the programs write needs step 1, a line that says who writes
// it in registry_test.go, and the golden plan.
//
// # To add a constant that C and Go share
//
// Put it into an enum of types.h. Where no map uses the enum, name it in struct
// unmapped of mesh.c and as a -type of the line below.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I headers" -type event -type question -type reason -type mode -type guard_flag -type special -type reserved -type depth -type listener mesh mesh.c
