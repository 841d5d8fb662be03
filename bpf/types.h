/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Every struct, enum and constant that C and Go share. bpf2go generates the Go
 * side, so nothing here is written twice. Fields have fixed widths and padding
 * is named: the kernel compares whole keys, so a hole with random bytes would
 * never match. Ports and addresses are in network order, IPv4 addresses as
 * ::ffff:a.b.c.d. Service number 0 means "no service". */
#pragma once

#include <linux/types.h>

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* Service numbers that belong to no service. */
enum special {
	ANY_SERVICE = 0xffffffffu,    /* `*` in an intention */
	DAEMON_SERVICE = 0xfffffffeu, /* creator of the daemon's own sockets */
	EXEMPT_SERVICE = 0xfffffffdu, /* a caller that the hooks leave alone */
};

enum reserved {
	RESERVED_CHECKS = 2, /* the number of the health checks is that far below the last one of the IPv4 range */
	RESERVED_COUNT = 3,  /* so many of the last numbers are the daemon's own: their connections aren't counted */
};

enum depth {
	MAX_DEPTH = 16, /* cgroup levels below the hooked root that are searched for workloads */
};

enum reason {
	REASON_ALLOWED = 0,
	REASON_INTENTION,
	REASON_DEFAULT,
	REASON_IDENTITY,
	REASON_CREATOR,
	REASON_DEPTH,
	REASON_PORT,
	REASON_INSTANCE,
	REASON_UDP,
	REASON_GUARD,
	REASON_TAG,
	REASON_DAEMON,
	REASON_LIMIT,
	REASON_SELF,
	REASON_PERMISSIVE,
	REASON_CHANGED,
	REASON_DEVICE,
	REASON_LISTENER,
	REASON_DIVERTED,
	REASON_NAME,
	REASON_LATE,
	REASON_DIAL,   /* this one and the next two: ends of same-node connections */
	REASON_CLOSED,
	REASON_RESET,
	REASON_COUNT,
};

enum action {
	ACTION_NONE = 0,
	ACTION_DENY,
	ACTION_ALLOW,
};

enum mode {
	MODE_NONE = 0,
	MODE_CAPTURE,  /* connects to the daemon, which carries the connection */
	MODE_LOCAL,    /* connects to an instance on this node directly */
	MODE_TAG,      /* the daemon connects on behalf of source to an instance here or outside, or asks for its addresses */
	MODE_ACCEPTED, /* the daemon's end of a captured connection */
	MODE_SERVING,  /* a listener of the daemon; closed when the daemon ends */
	MODE_CUT,      /* was MODE_LOCAL until the sweep cut the connection */
	MODE_INNER,    /* a program's end of a connection that isn't bound to the source's virtual address; always in other network namespaces */
};

/* naming is whether accept() and getpeername() of a called program return the source's
 * virtual address, since the caller's socket isn't bound to that, and which one. */
enum naming {
	NAMED_NOT = 0,
	NAMED_4,
	NAMED_6,
};

struct address {
	__u32 word[4];
};

struct endpoint {
	struct address addr;
	__u16 port;
	__u16 pad;
};

struct config {
	__u64 daemon_cgroup;
	__u64 netns;         /* cookie of the daemon's network namespace */
	__u64 revision;
	struct address virtual6;
	struct address mask6; /* at most 96 bits: the last 32 hold the service number */
	__u32 virtual4;
	__u32 mask4;
	enum action default_action;
	__u32 root_level;     /* level of the hooked cgroup in the cgroup v2 tree */
	__u16 listen4;        /* ports of the daemon's listeners, in host order */
	__u16 listen6;
	__u32 exclusions;     /* 1: exempt callers or targets exist */
	__u32 quota;          /* entries of origins that one source may have */
	__u32 capacity;       /* entries of origins in all */
};

struct workload {
	__u32 service;
	__u32 pad;
};

struct pair {
	__u32 source;
	__u32 destination;
};

struct port_key {
	__u32 service;
	__u16 port; /* 0: marks that the service exists */
	__u16 pad;
};

enum guard_flag {
	GUARD_PERMISSIVE = 1, /* plain connections are let in */
	GUARD_ANYONE = 2,     /* the listener's creator isn't checked: unknown, or checked by the daemon */
	GUARD_SERVING = 4,    /* every socket with that local port was accepted there */
	GUARD_LOOPBACK = 8,   /* callers on this node keep their own address: client_address = "loopback" */
	GUARD_CARRIED = 16,   /* callers on this node go through the daemon as well */
};

/* port_value is where a service's virtual address and port lead. */
struct port_value {
	struct endpoint local; /* port 0: no instance on this node */
	__u32 remote;          /* 1: another node has an instance */
	enum guard_flag flags; /* GUARD_ANYONE and GUARD_LOOPBACK */
};

struct guard_key {
	__u16 port;
	__u16 pad;
};

struct guard_value {
	__u32 service;
	enum guard_flag flags; /* combined by OR */
};

struct upstream_key {
	struct endpoint bind;
	__u32 service; /* the caller; 0: every workload, and bind is the real address of an outside service */
};

struct upstream_value {
	__u32 destination;
	__u16 port;
	__u16 pad;
};

/* sock_state is the socket storage (BPF_MAP_TYPE_SK_STORAGE) of one socket. */
struct sock_state {
	struct endpoint peer;   /* passed to connect(), and returned by getpeername() ... */
	struct endpoint actual; /* ... while the socket is connected to this one */
	__u32 creator;          /* service of the process that created the socket */
	__u32 source;
	__u32 destination;
	enum mode mode;
	__u16 other_netns;      /* 1: not in the daemon's network namespace */
	__u16 owned;            /* 1: only a listener that is surely destination's may be reached; only with MODE_TAG */
	__u16 ingress;          /* 1: source is an ingress; only with MODE_TAG */
	__u16 named;            /* enum naming; only with MODE_LOCAL */
};

/* question is what mesh_decide is asked. */
struct question {
	__u32 source;
	__u32 destination;
	__u32 ingress; /* 1: source is one */
};

/* origin_key identifies a connection by the addresses that its accepting end
 * will see. */
struct origin_key {
	__u64 netns; /* cookie of that end's network namespace; 0: the client is in another one */
	struct endpoint client;
	struct endpoint target;
};

struct origin {
	__u64 cookie;   /* of the connecting socket: no other socket may remove the entry */
	__u32 source;   /* 0: two sockets have the same key, so neither is trusted */
	__u32 destination;
	__u32 sequence; /* of the SYN: tells connections apart that NAT gives the same addresses */
	enum naming named;
};

/* net_key is an address prefix in an LPM trie. */
struct net_key {
	__u32 prefixlen;
	struct address addr;
};

/* name_key is a DNS name in wire format (RFC 1035, section 3.1), in lower case
 * and with its bytes reversed, so that a domain is a prefix of the names below
 * it and an LPM trie finds it. */
#define NAME_SIZE 256

struct name_key {
	__u32 prefixlen;
	__u8 wire[NAME_SIZE];
};

struct event {
	__u64 time; /* ns since boot */
	struct endpoint target;
	struct endpoint client; /* zero: not reported for a packet that arrives */
	__u32 source;
	__u32 destination;
	enum reason reason;
	__u32 pid; /* 0: not reported from the context of a process */
	char comm[16];
};

struct direct_key {
	__u32 source;
	__u32 destination;
	enum reason reason; /* of the end */
	__u16 port;         /* of the instance */
	__u16 pad;
};

/* direct_value sums same-node connections. Bytes are counted at the caller. */
struct direct_value {
	__u64 connections;
	__u64 sent;
	__u64 received;
};

#pragma clang diagnostic pop
