/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The maps. All are pinned by their names, so that a killed daemon leaves
 * policy in force. Plain hashes only: nothing live is ever evicted. */
#pragma once

#include "types.h"

#define MAX_INTENTIONS 262144
#define MAX_SERVICES 65536
#define MAX_ORIGINS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} settings SEC(".maps");

#define HASH(name, keytype, valuetype, entries)          \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_HASH);         \
		__uint(max_entries, entries);            \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__type(key, keytype);                    \
		__type(value, valuetype);                \
		__uint(pinning, LIBBPF_PIN_BY_NAME);     \
	} name SEC(".maps")

HASH(workloads, __u64, struct workload, 16384);           /* cgroup id */
HASH(namespaces, __u64, struct workload, 1024);           /* cookie of a network namespace */
HASH(users, __u32, struct workload, 1024);                /* uid */
HASH(interfaces, __u32, struct workload, 1024);           /* index: what comes in by it */
HASH(intentions, struct pair, enum action, MAX_INTENTIONS);
HASH(ports, struct port_key, struct port_value, MAX_SERVICES);
HASH(guards, struct guard_key, struct guard_value, 16384);
HASH(remotes, struct endpoint, __u32, MAX_SERVICES);      /* service */
HASH(upstreams, struct upstream_key, struct upstream_value, 16384);
HASH(locals, struct address, __u32, 4096);
HASH(resolvers, struct address, struct endpoint, 128);    /* name server -> our listener */
HASH(answers, struct endpoint, struct address, 128);      /* our listener -> name server */
HASH(origins, struct origin_key, struct origin, MAX_ORIGINS);
HASH(usage, __u32, __u64, MAX_SERVICES);                  /* origins by source; 0: all */
HASH(exempt_ports, struct guard_key, __u32, 1024);
HASH(exempt_peers, struct endpoint, __u32, 1024);         /* remote ends of plain connections that no sweep cuts */

#define TRIE(name, keytype, entries)                     \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);     \
		__uint(max_entries, entries);            \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__type(key, keytype);                    \
		__type(value, __u32);                    \
		__uint(pinning, LIBBPF_PIN_BY_NAME);     \
	} name SEC(".maps")

TRIE(exempt_nets, struct net_key, 1024);
TRIE(names, struct name_key, MAX_SERVICES);               /* bytes of an exact name; 0: and all below */

/* alive is 1 while the daemon's listeners live. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} alive SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct sock_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sockets SEC(".maps");

/* listeners are the daemon's, for IPv4 and IPv6: of captured connections, of
 * other namespaces' queries by UDP, and by TCP. Entries go with the sockets. */
enum listener {
	LISTENER_PROXY = 0,
	LISTENER_NAMES_UDP = 2,
	LISTENER_NAMES_TCP = 4,
	LISTENER_COUNT = 6,
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, LISTENER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* counters by enum reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");
