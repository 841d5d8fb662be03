/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* connect(): what is called, who calls, may it, and where it goes. The entry
 * points unpack and rewrite the context; everything else is here. */
#pragma once

#include "address.h"
#include "decide.h"
#include "kernel.h"
#include "listener.h"
#include "quota.h"
#include "report.h"
#include "resolve.h"
#include "source.h"

enum outcome {
	PASS,    /* as it is */
	REWRITE, /* to call.to */
	REFUSE,  /* for call.reason */
};

struct call {
	struct endpoint to;
	struct endpoint asked;
	__u64 netns; /* cookie */
	__u32 source;
	__u32 destination;
	__u32 reason;
	enum mode mode;
	bool home;   /* made in the daemon's network namespace */
	bool direct; /* to a service's own port, not to a virtual address */
	bool anyone; /* whoever listens there */
};

static __always_inline int refuse(struct call *c, __u32 reason)
{
	c->reason = reason;
	report(reason, c->source, c->destination, &c->to);
	return REFUSE;
}

/* listening says whether the daemon's listener for that family is there. */
static __always_inline bool listening(const struct address *a)
{
	__u32 family = is4(a) ? 0 : 1;
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &family);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* classify finds the called service; 0 is none of ours. */
__noinline __u32 classify(const struct config *s, struct call *c)
{
	struct guard_key port = {};
	struct guard_value *g;
	__u32 *remote;

	if (!s || !c)
		return 0;
	port.port = c->to.port;
	if (in_range(s, &c->to.addr))
		return number_of(s, &c->to.addr);
	if (c->home && is_local(&c->to.addr)) { /* whatever other nodes say of our addresses */
		g = bpf_map_lookup_elem(&guards, &port);
		c->direct = g != 0;
		c->anyone = g && (g->flags & GUARD_ANYONE);
		return g ? g->service : 0;
	}
	if (left_alone(s, &c->to))
		return 0;
	remote = bpf_map_lookup_elem(&remotes, &c->to);
	return remote ? *remote : 0;
}

/* explicit_upstream: an entry judged here, with no listener behind it. */
__noinline __u32 explicit_upstream(const struct config *s, struct call *c)
{
	struct upstream_key key = {};
	struct upstream_value *u;

	if (!s || !c || !c->source || !c->home || !is_loopback(&c->to.addr))
		return 0;
	key.bind = c->to;
	key.service = c->source;
	u = bpf_map_lookup_elem(&upstreams, &key);
	if (!u)
		return 0;
	c->to.addr = virtual_of(s, u->destination, &c->to.addr);
	c->to.port = u->port;
	return u->destination;
}

static __always_inline bool permissive(struct call *c)
{
	struct guard_key port = {.port = c->to.port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &port);

	return g && (g->flags & GUARD_PERMISSIVE);
}

/* judge is the verdict on a call whose ends are known. */
static __always_inline __u32 judge(struct call *c, struct sock_state *st)
{
	if (c->direct && !c->source && permissive(c)) {
		count(REASON_PERMISSIVE);
		return REASON_PERMISSIVE;
	}
	if (c->source && (!st || st->creator != c->source))
		return REASON_CREATOR;
	if (c->direct && c->source && c->source == c->destination)
		return REASON_SELF;
	return decide(c->source, c->destination);
}

/* takes4 says whether an IPv6 socket may have an IPv4 peer: it wasn't told not
 * to, and isn't bound to an IPv6 address. */
static __always_inline bool takes4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sock_common *common;

	if (!sk || sk->src_ip6[0] || sk->src_ip6[1] || sk->src_ip6[2] || sk->src_ip6[3])
		return false;
	common = (struct sock_common *)bpf_skc_to_tcp6_sock(sk);
	return common && !BPF_CORE_READ_BITFIELD(common, skc_ipv6only);
}

/* fits says whether the socket can be connected to an instance of this node.
 * An MPTCP one goes to the daemon: it could add paths that nobody judges. */
static __always_inline bool fits(struct bpf_sock_addr *ctx, const struct address *asked, const struct endpoint *local)
{
	if (!local->port || bpf_skc_to_mptcp_sock(ctx->sk))
		return false;
	if (is4(asked))
		return is4(&local->addr);
	return !is4(&local->addr) || takes4(ctx);
}

/* bound_elsewhere: a socket bound to a device other than loopback goes round
 * the routes that lead to the mesh. egress.h sees those bound later. */
static __always_inline int bound_elsewhere(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX;
}

/* place says where an allowed call goes. */
__noinline int place(struct bpf_sock_addr *ctx, const struct config *s, struct call *c)
{
	struct port_key key = {};
	struct port_value *v;

	if (!s || !c)
		return REFUSE;
	key.service = c->destination;
	c->mode = MODE_LOCAL;
	if (c->direct)
		return c->anyone || listens(ctx, &c->to, c->destination) ? PASS : refuse(c, REASON_LISTENER);
	if (!bpf_map_lookup_elem(&ports, &key))
		return refuse(c, REASON_INSTANCE);
	key.port = c->to.port;
	v = bpf_map_lookup_elem(&ports, &key);
	if (!v)
		return refuse(c, REASON_PORT);
	if (!v->local.port && !v->remote)
		return refuse(c, REASON_INSTANCE);
	if (!listening(&c->to.addr))
		return refuse(c, REASON_DAEMON);
	if (!c->home) {
		if (!room(s, c->source))
			return refuse(c, REASON_LIMIT);
		c->mode = MODE_CAPTURE;
		/* a real address would leave in clear: only virtual ones are captured on the way */
		return in_range(s, &c->to.addr) ? PASS : refuse(c, REASON_GUARD);
	}
	if (bound_elsewhere(ctx))
		return refuse(c, REASON_DEVICE);
	if (fits(ctx, &c->to.addr, &v->local)) {
		if (!v->anyone && !listens(ctx, &v->local, c->destination))
			return refuse(c, REASON_LISTENER);
		c->to = v->local;
		return REWRITE;
	}
	if (!room(s, c->source))
		return refuse(c, REASON_LIMIT);
	c->mode = MODE_CAPTURE;
	if (in_range(s, &c->asked.addr))
		return PASS;
	c->to.addr = virtual_of(s, c->destination, &c->to.addr);
	return REWRITE;
}

/* by_daemon: the daemon's sockets are exempt, but for a local service's port
 * they need the tag of a proven source, which is judged again here. */
static __always_inline int by_daemon(struct bpf_sock_addr *ctx, struct call *c)
{
	struct guard_key port = {.port = c->to.port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &port);
	struct sock_state *st;
	__u32 verdict;

	if (!g || ctx->type != SOCK_STREAM || !is_local(&c->to.addr))
		return PASS;
	c->destination = g->service;
	st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	if (!st || st->mode != MODE_TAG || st->destination != g->service)
		return refuse(c, REASON_TAG);
	c->source = st->source;
	verdict = decide(c->source, c->destination);
	return verdict == REASON_ALLOWED ? PASS : refuse(c, verdict);
}

static __always_inline int udp_call(const struct config *s, struct call *c, bool sending)
{
	if (sending && in_range(s, &c->to.addr))
		return refuse(c, REASON_UDP);
	return PASS;
}

/* remember writes what later hooks need into the socket's storage. */
static __always_inline void remember(struct call *c, struct sock_state *st, int outcome)
{
	if (!st)
		return;
	st->source = c->source;
	st->destination = c->destination;
	st->mode = c->mode;
	st->foreign = !c->home;
	if (outcome != REWRITE)
		return;
	st->peer = c->asked;
	st->actual = c->to;
}

/* state_of finds a socket's storage. What connects for an MPTCP socket is an
 * inner one, made by the kernel on behalf of the outer one's creator. */
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
	bool ours;

	if (st)
		st->mode = MODE_NONE; /* of an earlier attempt */
	c->destination = classify(s, c);
	ours = c->direct || in_range(s, &c->to.addr);
	if (!c->destination && !ours && !(c->home && is_loopback(&c->to.addr)))
		return PASS;
	reason = find_source(c->netns, &c->source);
	if (c->source == EXEMPT_SERVICE) {
		if (!ours)
			return PASS;
		c->source = 0;
	}
	if (!c->destination && !ours)
		c->destination = explicit_upstream(s, c);
	if (!c->destination)
		return ours ? refuse(c, REASON_INSTANCE) : PASS;
	if (reason)
		return refuse(c, reason);
	reason = judge(c, st);
	if (reason == REASON_PERMISSIVE)
		return PASS;
	if (reason != REASON_ALLOWED && reason != REASON_SELF)
		return refuse(c, reason);
	outcome = place(ctx, s, c);
	if (outcome != REFUSE) {
		count(reason);
		remember(c, st, outcome);
	}
	return outcome;
}

/* exempt: who calls is left alone. */
static __always_inline bool exempt(const struct config *s, __u64 netns)
{
	__u32 service = 0;

	return s->exclusions && !find_source(netns, &service) && service == EXEMPT_SERVICE;
}

/* on_call is the whole of a connect or, with sending, of a datagram's address. */
static __always_inline int on_call(struct bpf_sock_addr *ctx, struct call *c, bool sending)
{
	struct config *s = get_settings();

	if (!s)
		return PASS; /* not set up yet */
	c->asked = c->to;
	if (is_daemon(s))
		return by_daemon(ctx, c);
	c->netns = bpf_get_netns_cookie(ctx);
	c->home = c->netns == s->netns;
	if (c->home && !left_alone(s, &c->to) && !exempt(s, c->netns) && to_names(ctx, &c->to)) {
		if (!sending)
			names_peer(ctx, &c->asked, &c->to);
		return REWRITE;
	}
	if (!c->home)
		names_elsewhere(ctx, &c->to);
	return ctx->type == SOCK_STREAM ? tcp_call(ctx, s, c) : udp_call(s, c, sending);
}

/* on_peername gives back what connect() asked for. */
static __always_inline bool on_peername(struct bpf_sock_addr *ctx, struct endpoint *peer)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);

	if (!st || !st->actual.port || !same_endpoint(&st->actual, peer))
		return false;
	*peer = st->peer;
	return true;
}
