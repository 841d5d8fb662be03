/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* A call: which service it is for, and whether its source may make it. */
#pragma once

#include "address.h"
#include "decide.h"
#include "report.h"

enum outcome {
	PASS,    /* leave the destination as it is */
	REWRITE, /* connect to call.to */
	REFUSE,  /* with call.reason */
	CARRY,   /* the daemon carries it; only within place() */
};

struct call {
	struct endpoint to;    /* where it goes */
	struct endpoint asked; /* what the program passed to connect() */
	__u64 netns;           /* cookie of the socket's network namespace */
	__u32 source;
	__u32 destination;
	__u32 reason;
	enum mode mode;
	bool home;   /* netns is the daemon's */
	bool direct; /* to a service's port in the caller's network namespace, not to a virtual address */
	bool outside; /* to the real address of a service outside of the mesh */
	enum guard_flag flags; /* of the port, with direct */
	enum naming named;
};

static __always_inline int refuse(struct call *c, __u32 reason)
{
	c->reason = reason;
	report(reason, c->source, c->destination, &c->to);
	return REFUSE;
}

/* listening returns whether the daemon listens for captured connections of that
 * address family. */
static __always_inline bool listening(const struct address *a)
{
	__u32 family = is4(a) ? 0 : 1;
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &family);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* leads_to makes the call one to the virtual address of the service that upstreams
 * has for the address and the source, and returns that service, 0 for none. */
static __always_inline __u32 leads_to(const struct config *s, struct call *c, __u32 source)
{
	struct upstream_key key = {.bind = c->to, .service = source};
	struct upstream_value *u = bpf_map_lookup_elem(&upstreams, &key);

	if (!u)
		return 0;
	c->to.addr = virtual_of(s, u->destination, &c->to.addr);
	c->to.port = u->port;
	return u->destination;
}

/* classify returns the called service, 0 for none of the mesh. */
__noinline __u32 classify(const struct config *s, struct call *c)
{
	struct guard_key port = {};
	struct guard_value *g;
	__u32 *remote, outside;

	if (!s || !c)
		return 0;
	port.port = c->to.port;
	if (in_range(s, &c->to.addr))
		return number_of(s, &c->to.addr);
	if (c->home && is_local(&c->to.addr)) { /* before remotes: another node may claim an address of this one */
		g = bpf_map_lookup_elem(&guards, &port);
		c->direct = g != 0;
		if (g)
			c->flags = g->flags;
		return g ? g->service : 0;
	}
	if (is_exempt_target(s, &c->to))
		return 0;
	remote = bpf_map_lookup_elem(&remotes, &c->to);
	if (remote)
		return *remote;
	outside = leads_to(s, c, 0);
	c->outside = outside != 0;
	return outside;
}

/* explicit_upstream returns the service that the caller's definition has put at
 * this loopback address, 0 for none. Nothing listens there: c->to becomes the
 * service's virtual address. */
__noinline __u32 explicit_upstream(const struct config *s, struct call *c)
{
	if (!s || !c || !c->source || !c->home || !is_loopback(&c->to.addr))
		return 0;
	return leads_to(s, c, c->source);
}

/* judge returns the verdict on a call whose source and destination are known. */
static __always_inline __u32 judge(struct call *c, struct sock_state *st)
{
	if (c->direct && !c->source && (c->flags & GUARD_PERMISSIVE)) {
		report(REASON_PERMISSIVE, 0, c->destination, &c->to);
		return REASON_PERMISSIVE;
	}
	if (c->source && (!st || st->creator != c->source))
		return REASON_CREATOR;
	if (c->direct && c->source && c->source == c->destination)
		return REASON_SELF;
	return decide(c->source, c->destination);
}
