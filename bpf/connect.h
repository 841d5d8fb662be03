/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* connect(): what is called, who calls, may it, and where it goes. The entry
 * points unpack and rewrite the context; everything else is here. */
#pragma once

#include "address.h"
#include "decide.h"
#include "report.h"
#include "source.h"

enum outcome {
	PASS,    /* as it is */
	REWRITE, /* to call.to */
	REFUSE,  /* for call.reason */
};

struct call {
	struct endpoint to;
	struct address original;
	__u32 source;
	__u32 destination;
	__u32 reason;
	__u16 original_port;
	enum mode mode;
	bool home;   /* made in the daemon's network namespace */
	bool direct; /* to a service's own port, not to a virtual address */
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

/* names_served says whether our listener for a resolver is there; without the
 * daemon, queries go where they were meant to go. */
static __always_inline bool names_served(struct bpf_sock_addr *ctx, bool v4, __u16 port)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	__u32 size = sizeof(t.ipv4);

	if (v4) {
		t.ipv4.daddr = bpf_htonl(0x7f000001);
		t.ipv4.dport = port;
	} else {
		t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.dport = port;
		size = sizeof(t.ipv6);
	}
	if (ctx->protocol == IPPROTO_UDP)
		sk = bpf_sk_lookup_udp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_tcp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* to_names sends a query for a resolver of the host to the daemon. */
static __always_inline int to_names(struct bpf_sock_addr *ctx, struct call *c)
{
	struct resolver_value *r = bpf_map_lookup_elem(&resolvers, &c->to.addr);
	bool v4 = is4(&c->to.addr);
	__u16 port;

	if (!r)
		return PASS;
	port = v4 ? r->port4 : r->port6;
	if (!port || !names_served(ctx, v4, port))
		return PASS;
	c->to.addr = v4 ? from4(bpf_htonl(0x7f000001)) : from6(0, 0, 0, bpf_htonl(1));
	c->to.port = port;
	return REWRITE;
}

/* classify finds the called service; 0 is none of ours. */
static __always_inline __u32 classify(const struct config *s, struct call *c)
{
	struct guard_key port = {.port = c->to.port};
	struct guard_value *g;
	__u32 *remote;

	if (in_range(s, &c->to.addr))
		return number_of(s, &c->to.addr);
	remote = bpf_map_lookup_elem(&remotes, &c->to);
	if (remote)
		return *remote;
	if (!c->home)
		return 0;
	g = bpf_map_lookup_elem(&guards, &port);
	if (!g || !is_local(&c->to.addr))
		return 0;
	c->direct = true;
	return g->service;
}

/* explicit_upstream: an entry judged here, with no listener behind it. */
static __always_inline __u32 explicit_upstream(const struct config *s, struct call *c)
{
	struct upstream_key key = {.bind = c->to, .service = c->source};
	struct upstream_value *u;

	if (!c->source || !c->home || !is_loopback(&c->to.addr))
		return 0;
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

	return g && g->permissive;
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

/* place says where an allowed call goes. */
static __always_inline int place(const struct config *s, struct call *c)
{
	struct port_key key = {.service = c->destination};
	struct port_value *v;

	c->mode = MODE_LOCAL;
	if (c->direct)
		return PASS;
	if (!bpf_map_lookup_elem(&ports, &key))
		return refuse(c, REASON_INSTANCE);
	key.port = c->to.port;
	v = bpf_map_lookup_elem(&ports, &key);
	if (!v)
		return refuse(c, REASON_PORT);
	if (!c->home) {
		c->mode = MODE_CAPTURE;
		/* a real address would leave in clear: only virtual ones are captured on the way */
		return in_range(s, &c->to.addr) ? PASS : refuse(c, REASON_GUARD);
	}
	if (!listening(&c->to.addr))
		return refuse(c, REASON_DAEMON);
	if (v->local.port && (is4(&v->local.addr) || !is4(&c->to.addr))) {
		c->to = v->local;
		return REWRITE;
	}
	c->mode = MODE_CAPTURE;
	if (in_range(s, &c->to.addr) && c->original_port == c->to.port && in_range(s, &c->original))
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

static __always_inline int udp_call(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, bool sending)
{
	if (sending && in_range(s, &c->to.addr))
		return refuse(c, REASON_UDP);
	if (c->home && c->to.port == bpf_htons(53))
		return to_names(ctx, c);
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
	st->rewritten = outcome == REWRITE;
	st->peer.addr = c->original;
	st->peer.port = c->original_port;
}

static __always_inline int tcp_call(struct bpf_sock_addr *ctx, const struct config *s, struct call *c)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
	__u32 reason;
	int outcome;

	if (st)
		st->mode = MODE_NONE, st->rewritten = 0; /* of an earlier attempt */
	c->destination = classify(s, c);
	if (!c->destination && !c->direct && !in_range(s, &c->to.addr) && !(c->home && is_loopback(&c->to.addr)))
		return PASS;
	reason = find_source(&c->source);
	if (!c->destination && !c->direct && !in_range(s, &c->to.addr))
		c->destination = explicit_upstream(s, c);
	if (!c->destination) /* a virtual address or a service's port without a number leads nowhere */
		return c->direct || in_range(s, &c->to.addr) ? refuse(c, REASON_INSTANCE) : PASS;
	if (reason)
		return refuse(c, reason);
	reason = judge(c, st);
	if (reason == REASON_PERMISSIVE)
		return PASS;
	if (reason != REASON_ALLOWED && reason != REASON_SELF)
		return refuse(c, reason);
	outcome = place(s, c);
	if (outcome != REFUSE) {
		count(reason);
		remember(c, st, outcome);
	}
	return outcome;
}

/* on_call is the whole of a connect or, with sending, of a datagram's address. */
static __always_inline int on_call(struct bpf_sock_addr *ctx, struct call *c, bool sending)
{
	struct config *s = get_settings();

	if (!s)
		return PASS; /* not set up yet */
	c->original = c->to.addr;
	c->original_port = c->to.port;
	if (bpf_get_current_cgroup_id() == s->daemon_cgroup)
		return by_daemon(ctx, c);
	c->home = bpf_get_netns_cookie(ctx) == s->netns;
	if (ctx->type != SOCK_STREAM)
		return udp_call(ctx, s, c, sending);
	if (c->home && c->to.port == bpf_htons(53) && to_names(ctx, c) == REWRITE)
		return REWRITE;
	return tcp_call(ctx, s, c);
}
