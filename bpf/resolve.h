/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Redirects DNS queries for the host's resolvers to the daemon's listener while
 * the daemon runs, and gives the answers the address of the resolver. */
#pragma once

#include "listener.h"

#define DNS_PORT 53

/* daemon_listens returns whether the socket at that endpoint is the daemon's:
 * after its death, another program may have bound the port. */
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

/* to_names redirects a query for a resolver of the host to the daemon. */
static __always_inline bool to_names(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct endpoint *listener;

	if (to->port != bpf_htons(DNS_PORT))
		return false;
	listener = bpf_map_lookup_elem(&resolvers, &to->addr);
	if (!listener || !listener->port || !daemon_listens(ctx, listener))
		return false;
	*to = *listener;
	return true;
}

/* names_elsewhere marks a socket in another network namespace that queries a
 * resolver of the host: its packets leave by veth, and TPROXY takes them on the
 * other side, so the egress program must not drop them. */
static __always_inline void names_elsewhere(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct sock_state *st;

	if (to->port != bpf_htons(DNS_PORT) || !bpf_map_lookup_elem(&resolvers, &to->addr))
		return;
	st = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->other_netns = 1;
}

/* from_names gives an answer from the daemon the address of the resolver that the
 * program asked. */
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

/* names_peer keeps the resolver for getpeername(), where the program uses
 * connect() for its queries. */
static __always_inline void names_peer(struct bpf_sock_addr *ctx, const struct endpoint *asked, const struct endpoint *actual)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!st)
		return;
	st->peer = *asked;
	st->actual = *actual;
}
