/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Every struct and enum that C and Go share, once. Fixed widths, every pad
 * named: a hidden hole in a key would never match. Ports and addresses are in
 * network order, IPv4 as ::ffff:a.b.c.d. Service number 0 is nobody. */
#pragma once

#include <linux/types.h>

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

#define ANY_SERVICE 0xffffffffu    /* `*` in an intention */
#define DAEMON_SERVICE 0xfffffffeu /* creator of the daemon's own sockets */
#define EXEMPT_SERVICE 0xfffffffdu /* who is left alone, in the place of a service */
#define LOOPBACK_IFINDEX 1 /* in every network namespace */
#define MAX_DEPTH 16               /* cgroup levels below the hooked root */

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
	REASON_COUNT,
};

enum action {
	ACTION_NONE = 0,
	ACTION_DENY,
	ACTION_ALLOW,
};

enum mode {
	MODE_NONE = 0,
	MODE_CAPTURE,  /* on its way to the daemon */
	MODE_LOCAL,    /* program to program, on this node */
	MODE_TAG,      /* the daemon's, for dialling a program */
	MODE_ACCEPTED, /* the daemon's end of a captured connection */
	MODE_SERVING,  /* a listener of the daemon's: while it lives, the daemon does */
};

struct address {
	__u32 word[4];
};

/* endpoint is an address with a port. */
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
	struct address mask6; /* of 96 bits at most */
	__u32 virtual4;
	__u32 mask4;
	enum action default_action;
	__u32 root_level;     /* of the hooked cgroup */
	__u16 listen4;        /* ports of the daemon's listeners */
	__u16 listen6;
	__u32 exclusions;     /* there are some */
	__u32 quota;          /* of origins: of one service, and in all */
	__u32 capacity;
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
	__u16 port; /* 0: the service is known */
	__u16 pad;
};

/* port_value says where VIRTUAL:port leads. */
struct port_value {
	struct endpoint local; /* port 0: no instance here */
	__u32 remote;          /* some instance is elsewhere */
	__u32 anyone;          /* see GUARD_ANYONE */
};

struct guard_key {
	__u16 port;
	__u16 pad;
};

enum guard_flag {
	GUARD_PERMISSIVE = 1, /* plain connections are let in */
	GUARD_ANYONE = 2,     /* whose socket listens there can't be told, or was by the daemon */
	GUARD_SERVING = 4,    /* a connection on that port is one that was accepted */
};

struct guard_value {
	__u32 service;
	enum guard_flag flags; /* or-ed */
};

struct upstream_key {
	struct endpoint bind;
	__u32 service;
};

struct upstream_value {
	__u32 destination;
	__u16 port;
	__u16 pad;
};

/* sock_state is what a socket carries in its storage. */
struct sock_state {
	struct endpoint peer;   /* asked for; what getpeername gives back ... */
	struct endpoint actual; /* ... while it is connected to this one */
	__u32 creator;          /* service of the process that made it */
	__u32 source;
	__u32 destination;
	enum mode mode;
	__u32 foreign;          /* made in another network namespace than the daemon's */
};

/* origin_key is a connection as its capturing end will see it. */
struct origin_key {
	__u64 netns; /* cookie; 0: another namespace than the daemon's */
	struct endpoint client;
	struct endpoint target;
};

struct origin {
	__u64 cookie; /* of the connecting socket: only it may remove the entry */
	__u32 source; /* 0: two claimed the connection, so nobody has it */
	__u32 destination;
	__u32 sequence; /* of its first packet, which no NAT can make its own */
	__u32 pad;
};

/* net_key is a prefix of an address, for a trie. */
struct net_key {
	__u32 prefixlen;
	struct address addr;
};

/* name_key is a DNS name in wire form, lower case, back to front, so that a
 * domain is a prefix of the names below it. */
struct name_key {
	__u32 prefixlen;
	__u8 wire[256];
};

struct event {
	__u64 time; /* ns since boot */
	struct endpoint target;
	__u32 source;
	__u32 destination;
	enum reason reason;
	__u32 pid; /* 0: not in the context of a process */
	char comm[16];
	__u32 pad;
};

#pragma clang diagnostic pop
