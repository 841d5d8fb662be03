/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Name servers: queries to one go to the daemon's listener while there is
 * one, and answers come from the one that was asked. */
#pragma once

#include "listener.h"

#define DNS_PORT 53

/* daemon_listens says whether the daemon's own socket is at that place: when
 * it is dead, another program may have taken the port. */
__noinline int daemon_listens(struct bpf_sock_addr *ctx, const struct endpoint *at)
{
	struct bpf_sock *sk;
	int found;

	if (!at)
		return false;
	sk = listener_at(ctx, at, ctx->type != SOCK_STREAM);
	if (!sk)
		return false;
	found = creator_of(sk) == DAEMON_SERVICE;
	bpf_sk_release(sk);
	return found;
}

/* to_names turns a query for a resolver of the host to the daemon. */
static __always_inline bool to_names(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct endpoint *ours;

	if (to->port != bpf_htons(DNS_PORT))
		return false;
	ours = bpf_map_lookup_elem(&resolvers, &to->addr);
	if (!ours || !ours->port || !daemon_listens(ctx, ours))
		return false;
	*to = *ours;
	return true;
}

/* names_elsewhere marks a socket of another namespace that asks a resolver of
 * the host: TPROXY takes its queries, after they have left by veth. */
static __always_inline void names_elsewhere(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct sock_state *st;

	if (to->port != bpf_htons(DNS_PORT) || !bpf_map_lookup_elem(&resolvers, &to->addr))
		return;
	st = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->foreign = 1;
}

/* from_names gives an answer of ours the address of the resolver asked. */
static __always_inline bool from_names(struct bpf_sock_addr *ctx, struct endpoint *from)
{
	struct config *s = get_settings();
	struct address *asked;

	if (!s || !is_loopback(&from->addr) || bpf_get_netns_cookie(ctx) != s->netns)
		return false;
	asked = bpf_map_lookup_elem(&answers, from);
	if (!asked)
		return false;
	from->addr = *asked;
	from->port = bpf_htons(DNS_PORT);
	return true;
}

/* names_peer keeps the resolver asked for getpeername, where queries go to it
 * by connect(). */
static __always_inline void names_peer(struct bpf_sock_addr *ctx, const struct endpoint *asked, const struct endpoint *actual)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!st)
		return;
	st->peer = *asked;
	st->actual = *actual;
}
