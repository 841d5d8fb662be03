/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* cgroup/connect and cgroup/sendmsg: who makes a call, and where an allowed one
 * goes instead. The entry points in mesh.c read and rewrite the context. */
#pragma once

#include "call.h"
#include "here.h"
#include "kernel.h"
#include "listener.h"
#include "quota.h"
#include "resolve.h"
#include "source.h"

/* bound_elsewhere: a socket bound to a device other than loopback bypasses the
 * routes of the virtual ranges. egress.h handles one that is bound after connect(). */
static __always_inline int bound_elsewhere(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX;
}

/* plain: a program may call itself at once, before the daemon knows that it listens,
 * and a health check finds out whether the instance can serve. */
static __always_inline bool plain(const struct config *s, struct call *c)
{
	return c->source == c->destination || is_check(s, c->source);
}

/* unserved returns why a call to a service's port on this node, which goes there or
 * nowhere, isn't served, else 0. server is who listens there. With GUARD_CARRIED the
 * daemon serves it, and chooses the instance. A service whose record isn't in force yet
 * has no entry in ports: then the socket table says whether somebody listens. */
static __always_inline __u32 unserved(const struct config *s, struct call *c, int server)
{
	struct port_key key = {.service = c->destination, .port = c->to.port};
	struct port_value *v = bpf_map_lookup_elem(&ports, &key);

	if (server == SERVER_OTHER && !(c->flags & GUARD_ANYONE))
		return REASON_LISTENER;
	if (plain(s, c))
		return 0;
	if (!v)
		return server == SERVER_NONE ? REASON_INSTANCE : 0;
	return v->local.port || ((c->flags & GUARD_CARRIED) && v->remote) ? 0 : REASON_INSTANCE;
}

/* owner_at returns who made the socket that listens at that endpoint in the caller's
 * network namespace, 0 for nobody known. *found says whether there is one. */
__noinline __u32 owner_at(struct bpf_sock_addr *ctx, const struct endpoint *at, bool *found)
{
	struct bpf_sock *sk;
	__u32 owner;

	if (!at || !found)
		return 0;
	sk = listener_at(ctx, at, false);
	*found = sk != 0;
	if (!sk)
		return 0;
	owner = creator_of(sk);
	bpf_sk_release(sk);
	return owner;
}

/* classify_inner finds a service that listens in the caller's own network namespace,
 * which isn't the daemon's: by loopback, or by an address of an instance of this node. */
static __always_inline void classify_inner(struct bpf_sock_addr *ctx, const struct config *s, struct call *c)
{
	struct guard_value *g;
	bool found = false;
	__u32 owner;

	if (in_range(s, &c->to.addr) || (!c->destination && !is_loopback(&c->to.addr)))
		return;
	owner = owner_at(ctx, &c->to, &found);
	g = inner_guard(owner, c->to.port);
	if (!g || (c->destination && c->destination != owner))
		return;
	c->destination = owner;
	c->direct = true;
	c->flags = g->flags;
}

/* place decides where an allowed call goes. */
__noinline int place(struct bpf_sock_addr *ctx, const struct config *s, struct call *c)
{
	struct port_key key = {};
	int outcome, server = SERVER_NONE;
	struct port_value *v;
	__u32 reason;

	if (!s || !c)
		return REFUSE;
	c->mode = MODE_LOCAL;
	key.service = c->destination;
	if (c->direct && !c->home) /* nothing is rewritten there, so the daemon can't carry it */
		return (c->flags & GUARD_CARRIED) && c->source != c->destination ? refuse(c, REASON_GUARD) : PASS;
	if (c->direct) {
		server = server_at(ctx, &c->to, c->destination);
		reason = unserved(s, c, server);
		if (reason)
			return refuse(c, reason);
		if (plain(s, c))
			return PASS;
		if (plainly(ctx, s, c, &c->to.addr, c->flags))
			return name_loopback(c);
	}
	if (!bpf_map_lookup_elem(&ports, &key))
		return refuse(c, REASON_INSTANCE);
	key.port = c->to.port;
	v = bpf_map_lookup_elem(&ports, &key);
	if (!v)
		return refuse(c, REASON_PORT);
	if (!v->local.port && !v->remote)
		return refuse(c, REASON_INSTANCE);
	if (!c->direct && !listening(&c->to.addr))
		return refuse(c, REASON_DAEMON);
	if (!c->home) {
		if (!room(s, c->source))
			return refuse(c, REASON_LIMIT);
		c->mode = MODE_CAPTURE;
		/* Only virtual addresses are captured on the daemon's side of the veth: a
		 * connection to a real address would leave the host in clear. */
		return in_range(s, &c->asked.addr) ? PASS : refuse(c, REASON_GUARD);
	}
	if (bound_elsewhere(ctx))
		return refuse(c, REASON_DEVICE);
	outcome = to_program(ctx, s, c, v, server);
	if (outcome != CARRY)
		return outcome;
	if (c->direct && !listening(&c->to.addr))
		return refuse(c, REASON_DAEMON);
	if (!room(s, c->source))
		return refuse(c, REASON_LIMIT);
	c->mode = MODE_CAPTURE;
	if (in_range(s, &c->asked.addr))
		return PASS;
	c->to.addr = virtual_of(s, c->destination, &c->to.addr);
	return REWRITE;
}

/* proven judges the source that the daemon's tag names, and who listens, unless the
 * daemon has just looked. It looks when it is refused here, and reports what it finds. */
static __always_inline int proven(struct bpf_sock_addr *ctx, struct call *c, const struct sock_state *st)
{
	__u32 verdict;

	c->source = st->source;
	verdict = decide_for(c->source, c->destination, st->ingress);
	if (verdict != REASON_ALLOWED)
		return refuse(c, verdict);
	return !st->owned || owned(ctx, &c->to, c->destination) ? PASS : REFUSE;
}

/* by_daemon: the daemon's sockets are exempt. To reach a local service's port they
 * need a tag with the source that another node has proven, and the pair is judged
 * here again. A tag for an outside service is judged as well, unless source and
 * destination are the same: then the daemon asks for the service's addresses. */
static __always_inline int by_daemon(struct bpf_sock_addr *ctx, struct call *c)
{
	struct guard_key port = {.port = c->to.port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &port);
	struct sock_state *st;
	bool here = g && is_local(&c->to.addr);

	st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	if (!here && (!st || st->mode != MODE_TAG || (st->source == st->destination && !st->owned)))
		return PASS;
	c->destination = here ? g->service : st->destination;
	if (!st || st->mode != MODE_TAG || st->destination != c->destination)
		return refuse(c, REASON_TAG);
	return proven(ctx, c, st);
}

/* by_daemon_inner is by_daemon in another network namespace, where no bind hook keeps
 * other programs from the port: the listener is checked as well. */
static __always_inline int by_daemon_inner(struct bpf_sock_addr *ctx, struct call *c)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	bool found = false, tagged = st && st->mode == MODE_TAG;
	__u32 owner = owner_at(ctx, &c->to, &found);
	struct guard_value *g;

	c->destination = tagged ? st->destination : owner;
	g = inner_guard(c->destination, c->to.port);
	if (!tagged)
		return g ? refuse(c, REASON_TAG) : PASS;
	if (!g)
		return refuse(c, REASON_TAG);
	if (found && owner != c->destination && !(g->flags & GUARD_ANYONE))
		return refuse(c, REASON_LISTENER);
	return proven(ctx, c, st);
}

static __always_inline int udp_call(const struct config *s, struct call *c, bool sending)
{
	if (!sending || !in_range(s, &c->to.addr))
		return PASS;
	if (find_source(c->netns, &c->source) || c->source == EXEMPT_SERVICE)
		c->source = 0;
	c->destination = number_of(s, &c->to.addr);
	return refuse(c, REASON_UDP);
}

/* remember writes what later hooks need into the socket storage. */
static __always_inline void remember(struct call *c, struct sock_state *st, int outcome)
{
	if (!st)
		return;
	st->source = c->source;
	st->destination = c->destination;
	st->mode = c->mode;
	st->other_netns = !c->home;
	st->named = c->named;
	if (outcome != REWRITE)
		return;
	st->peer = c->asked;
	st->actual = c->to;
}

/* state_of returns the socket storage. For an MPTCP socket the kernel connects an
 * inner socket (a subflow), which inherits the creator of the outer one here. */
static __always_inline struct sock_state *state_of(struct bpf_sock_addr *ctx)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	struct sock_state *outer;
	struct mptcp_sock *m;

	if (st)
		return st;
	m = bpf_skc_to_mptcp_sock(ctx->sk);
	if (!m)
		return 0;
	outer = bpf_sk_storage_get(&sockets, m, 0, 0);
	if (!outer)
		return 0;
	st = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->creator = outer->creator;
	return st;
}

static __always_inline int tcp_call(struct bpf_sock_addr *ctx, const struct config *s, struct call *c)
{
	struct sock_state *st = state_of(ctx);
	__u32 reason;
	int outcome;
	bool mesh; /* a virtual address or a service port of this node */

	if (st)
		st->mode = MODE_NONE; /* an earlier connect() may have set it */
	if (c->home && !hide(ctx, s))
		return refuse(c, REASON_DEVICE);
	c->destination = classify(s, c);
	if (!c->home)
		classify_inner(ctx, s, c);
	mesh = c->direct || (in_range(s, &c->to.addr) && !c->outside);
	if (!c->destination && !mesh && !(c->home && is_loopback(&c->to.addr)))
		return PASS;
	reason = find_source(c->netns, &c->source);
	if (c->source == EXEMPT_SERVICE) {
		if (!mesh)
			return PASS;
		c->source = 0;
	}
	if (c->outside && !c->source && !reason)
		return PASS; /* only workloads call outside services through the mesh */
	if (!c->destination && !mesh)
		c->destination = explicit_upstream(s, c);
	if (!c->destination)
		return mesh ? refuse(c, REASON_INSTANCE) : PASS;
	if (reason)
		return refuse(c, reason);
	reason = judge(c, st);
	if (reason == REASON_PERMISSIVE)
		return PASS;
	if (reason != REASON_ALLOWED && reason != REASON_SELF)
		return refuse(c, reason);
	outcome = place(ctx, s, c);
	if (outcome != REFUSE) {
		if (!is_own(c->source))
			count(reason);
		remember(c, st, outcome);
	}
	return outcome;
}

/* exempt returns whether the operator has excluded the caller. */
static __always_inline bool exempt(const struct config *s, __u64 netns)
{
	__u32 service = 0;

	return s->exclusions && !find_source(netns, &service) && service == EXEMPT_SERVICE;
}

/* on_call handles connect() or, with sending, a sendmsg() that names an address. */
static __always_inline int on_call(struct bpf_sock_addr *ctx, struct call *c, bool sending)
{
	struct config *s = get_settings();

	if (!s)
		return PASS; /* Load hasn't written the settings yet */
	c->asked = c->to;
	c->netns = bpf_get_netns_cookie(ctx);
	c->home = c->netns == s->netns;
	if (is_daemon(s)) {
		if (ctx->type != SOCK_STREAM)
			return PASS;
		return c->home ? by_daemon(ctx, c) : by_daemon_inner(ctx, c);
	}
	if (c->home && !is_exempt_target(s, &c->to) && !exempt(s, c->netns) && to_names(ctx, &c->to)) {
		if (!sending)
			names_peer(ctx, &c->asked, &c->to);
		return REWRITE;
	}
	if (!c->home)
		names_elsewhere(ctx, &c->to);
	return !sending && ctx->type == SOCK_STREAM ? tcp_call(ctx, s, c) : udp_call(s, c, sending);
}

/* on_peername returns the peer that the program passed to connect(). */
static __always_inline bool on_peername(struct bpf_sock_addr *ctx, struct endpoint *peer)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);

	if (!st || !st->actual.port || !same_endpoint(&st->actual, peer))
		return false;
	*peer = st->peer;
	return true;
}
