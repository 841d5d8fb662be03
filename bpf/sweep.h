/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The sweep is an iter/tcp program over the TCP sockets of one network namespace.
 * It cuts same-node connections that policy no longer allows, and plain connections
 * that are older than the guard of their port and wouldn't be allowed today. A
 * listener that is older than its workload's enrolment gets its creator. */
#pragma once

#include "address.h"
#include "decide.h"
#include "kernel.h"
#include "listener.h"
#include "report.h"

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

static __always_inline struct address words(const struct in6_addr *a)
{
	return from6(a->in6_u.u6_addr32[0], a->in6_u.u6_addr32[1], a->in6_u.u6_addr32[2], a->in6_u.u6_addr32[3]);
}

static __always_inline void both(struct sock_common *sk, struct endpoint *own, struct endpoint *peer)
{
	own->port = bpf_htons(sk->skc_num);
	peer->port = sk->skc_dport;
	if (sk->skc_family == AF_INET) {
		own->addr = from4(sk->skc_rcv_saddr);
		peer->addr = from4(sk->skc_daddr);
		return;
	}
	own->addr = words(&sk->skc_v6_rcv_saddr);
	peer->addr = words(&sk->skc_v6_daddr);
}

/* may_stay_accepted returns whether an accepted connection may live. On a strict
 * port the peer must be on this node: there, the connect hook has judged it, or
 * may_call does so now, or it is the daemon. Only those two bind virtual addresses. */
static __always_inline bool may_stay_accepted(const struct config *s, const struct endpoint *own, struct endpoint *peer)
{
	struct guard_key key = {.port = own->port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &key);

	if (!g || !(g->flags & GUARD_SERVING) || (g->flags & GUARD_PERMISSIVE))
		return true;
	return is_local(&peer->addr) || in_range(s, &peer->addr) || in_range(s, &own->addr) || bpf_map_lookup_elem(&exempt_peers, peer);
}

/* may_call judges a caller on this node whose connection is older than the guard
 * of the port. */
static __always_inline bool may_call(struct sock_common *sk, struct sock_state *st, const struct endpoint *own, struct endpoint *peer)
{
	struct guard_key key = {.port = peer->port};
	struct guard_value *g;
	__u32 source;

	if (!is_local(&peer->addr))
		return true;
	g = bpf_map_lookup_elem(&guards, &key);
	if (!g || (g->flags & GUARD_PERMISSIVE) || bpf_map_lookup_elem(&exempt_peers, own))
		return true;
	source = st && st->creator ? st->creator : enrolled(bpf_skc_to_tcp_sock(sk));
	if (source == DAEMON_SERVICE || (source && source == g->service))
		return true;
	return decide(source, g->service) == REASON_ALLOWED;
}

/* inner_may_live returns whether a socket of another network namespace may live. A
 * connection that was accepted without a record is older than the guard of its port.
 * Only sockets that connect have a creator. */
static __always_inline bool inner_may_live(struct tcp_sock *tcp, struct sock_state *st, const struct endpoint *own)
{
	struct guard_value *g;

	if (st && st->creator)
		return true;
	g = inner_guard(enrolled(tcp), own->port);
	return !g || !(g->flags & GUARD_SERVING) || (g->flags & GUARD_PERMISSIVE);
}

/* may_live returns the verdict on one socket. */
static __always_inline bool may_live(struct sock_common *sk, struct sock_state *st)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct config *s = get_settings();
	struct endpoint own = {}, peer = {};

	if (!s)
		return true;
	if (st && st->mode == MODE_LOCAL)
		return st->source == st->destination || decide(st->source, st->destination) == REASON_ALLOWED;
	if (st && st->mode != MODE_NONE)
		return true; /* the daemon's own, or captured: the daemon cuts those */
	both(sk, &own, &peer);
	if (tcp && netns_of(tcp) != s->netns)
		return inner_may_live(tcp, st, &own);
	return may_stay_accepted(s, &own, &peer) && may_call(sk, st, &own, &peer);
}

/* adopt writes the creator of a listener into its storage. */
static __always_inline void adopt(struct sock_common *sk, struct sock_state *st)
{
	__u32 service = st && st->creator ? 0 : enrolled(bpf_skc_to_tcp_sock(sk));

	if (!service)
		return;
	st = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->creator = service;
}

/* tell_cut reports a cut. A same-node connection is reported when it closes. */
static __always_inline void tell_cut(struct sock_common *sk, struct sock_state *st)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct config *s = get_settings();
	struct endpoint own = {}, peer = {};
	struct guard_value *g;
	struct guard_key key = {};

	if (st && st->mode == MODE_LOCAL) {
		st->mode = MODE_CUT;
		count(REASON_CHANGED);
		return;
	}
	both(sk, &own, &peer);
	if (s && tcp && netns_of(tcp) != s->netns) {
		report_packet(REASON_CHANGED, 0, enrolled(tcp), &own, &peer);
		return;
	}
	key.port = own.port;
	g = bpf_map_lookup_elem(&guards, &key);
	if (g) { /* this is the accepted end */
		report_packet(REASON_CHANGED, 0, g->service, &own, &peer);
		return;
	}
	key.port = peer.port;
	g = bpf_map_lookup_elem(&guards, &key);
	report_packet(REASON_CHANGED, st ? st->creator : enrolled(tcp), g ? g->service : 0, &peer, &own);
}

/* on_socket writes one byte for each connection that it cuts, which user space
 * counts. It writes before it cuts: where the output buffer is full, the kernel
 * calls the program again with the same socket. */
static __always_inline int on_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct sock_state *st;
	char mark = 1;

	if (!sk || (sk->skc_family != AF_INET && sk->skc_family != AF_INET6) || sk->skc_state == BPF_TCP_TIME_WAIT)
		return 0;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (sk->skc_state == BPF_TCP_LISTEN) {
		adopt(sk, st);
		return 0;
	}
	if (may_live(sk, st) || bpf_seq_write(ctx->meta->seq, &mark, sizeof(mark)))
		return 0;
	tell_cut(sk, st);
	bpf_sock_destroy(sk);
	return 0;
}
