/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The maps. All are pinned by name, so that policy stays in force when the
 * daemon dies. There are no LRU maps: they would evict entries that are in use. */
#pragma once

#include "types.h"

#define MAX_INTENTIONS 262144
#define MAX_SERVICES 65536
#define MAX_ORIGINS 65536

/* settings has one entry. */
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

HASH(workloads, __u64, struct workload, 16384);           /* key: cgroup id */
HASH(namespaces, __u64, struct workload, 1024);           /* key: network namespace cookie */
HASH(users, __u32, struct workload, 1024);                /* key: uid */
HASH(interfaces, __u32, struct workload, 1024);           /* key: index of the ingress interface */
HASH(intentions, struct pair, enum action, MAX_INTENTIONS);
HASH(ports, struct port_key, struct port_value, MAX_SERVICES);
HASH(guards, struct guard_key, struct guard_value, 16384);
HASH(inner_guards, struct port_key, struct guard_value, 16384); /* ports on which a service listens in other network namespaces */
HASH(remotes, struct endpoint, __u32, MAX_SERVICES);      /* value: service */
HASH(upstreams, struct upstream_key, struct upstream_value, 16384);
HASH(locals, struct address, __u32, 4096);
HASH(resolvers, struct address, struct endpoint, 128);    /* name server -> the daemon's listener */
HASH(answers, struct endpoint, struct address, 128);      /* the daemon's listener -> name server */
HASH(origins, struct origin_key, struct origin, MAX_ORIGINS);
HASH(usage, __u32, __u64, MAX_SERVICES);                  /* entries of origins by source; 0: all */
HASH(direct, struct direct_key, struct direct_value, 16384);
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
TRIE(names, struct name_key, MAX_SERVICES);               /* value: length of an exact name in bytes; 0: a domain */

/* alive is 1 while all of the daemon's listeners are open. */
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

/* listeners holds the daemon's sockets: for captured connections, and for DNS
 * queries from other network namespaces by UDP and by TCP. Each kind has an index
 * for IPv4 and the next one for IPv6. The kernel removes a socket when it closes. */
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

/* announced receives the ports (struct guard_key) of listeners that begin or end. It
 * is apart from events, so that a program which only opens and closes a listener
 * can't displace reports of refusals. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} announced SEC(".maps");

/* counters is indexed by enum reason: how often it was given, and from REASON_COUNT
 * on, how many of those the daemon hasn't been told of. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");
