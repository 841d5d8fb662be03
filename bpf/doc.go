// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel programs and the typed doors to their maps. It
// knows numbers, addresses and cgroup ids, and must not know names, policy or
// what the numbers mean.
//
// The C files are in reading order: types.h (what both languages share),
// maps.h, decide.h, source.h (who calls), listener.h (who listens), quota.h,
// resolve.h, connect.h, origins.h, lookup.h, names.h, egress.h, forward.h, unix.h, sweep.h, and
// mesh.c with nothing but entry points. The generated files are committed, so
// that a build needs no clang.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I headers" -type config -type workload -type pair -type port_key -type port_value -type guard_key -type guard_value -type upstream_key -type upstream_value -type sock_state -type origin_key -type origin -type event -type endpoint -type address -type reason -type action -type mode -type guard_flag -type net_key -type name_key mesh mesh.c
