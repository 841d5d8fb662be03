/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* sockops records each connection that the connect hook has allowed before its
 * SYN leaves: sk_lookup delivers only those to the daemon or to a service's port.
 * When the connection is accepted, the identity is copied from the record into the
 * accepted socket's storage and the record is removed. The record is needed since
 * the connecting socket may be closed before the daemon accepts. */
#pragma once

#include "address.h"
#include "decide.h"
#include "direct.h"
#include "kernel.h"
#include "listener.h"
#include "quota.h"
#include "report.h"

/* ends reads both endpoints. In struct bpf_sock_ops the local port is in host
 * order, and the remote port in network order as a 32-bit number. */
static __always_inline void ends(struct bpf_sock_ops *ctx, struct endpoint *local, struct endpoint *remote)
{
	remote->port = bpf_htons((__u16)bpf_ntohl(FIELD(ctx, remote_port)));
	local->port = bpf_htons((__u16)FIELD(ctx, local_port));
	if (ctx->family == AF_INET) {
		remote->addr = from4(FIELD(ctx, remote_ip4));
		local->addr = from4(FIELD(ctx, local_ip4));
		return;
	}
	remote->addr = from6(FIELD(ctx, remote_ip6[0]), FIELD(ctx, remote_ip6[1]), FIELD(ctx, remote_ip6[2]), FIELD(ctx, remote_ip6[3]));
	if (is4(&remote->addr)) /* a mapped address: local_ip6 is not set yet at TCP_CONNECT_CB */
		local->addr = from4(FIELD(ctx, local_ip4));
	else
		local->addr = from6(FIELD(ctx, local_ip6[0]), FIELD(ctx, local_ip6[1]), FIELD(ctx, local_ip6[2]), FIELD(ctx, local_ip6[3]));
}

/* forget removes an entry and returns it to its source's quota. */
static __always_inline void forget(struct origin_key *key, __u32 source)
{
	if (bpf_map_delete_elem(&origins, key) || !source)
		return;
	use(source, -1);
	use(0, -1);
}

/* first_sequence returns the sequence number of the SYN that is about to be sent. */
static __always_inline __u32 first_sequence(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp ? tcp->write_seq : 0;
}

/* arrives_in returns the network namespace of the record: packets of a captured
 * connection leave the caller's, all others stay in it. */
static __always_inline __u64 arrives_in(struct bpf_sock_ops *ctx, const struct sock_state *st)
{
	return st->other_netns && st->mode == MODE_CAPTURE ? 0 : bpf_get_netns_cookie(ctx);
}

static __always_inline void origin_begins(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct sock_state *st)
{
	struct origin value = {.cookie = bpf_get_socket_cookie(ctx), .source = st->source, .destination = st->destination};
	struct origin_key key = {.netns = arrives_in(ctx, st)};
	long err;

	if (st->mode == MODE_LOCAL)
		value.named = st->named;
	ends(ctx, &key.client, &key.target);
	value.sequence = first_sequence(sk);
	err = bpf_map_update_elem(&origins, &key, &value, BPF_NOEXIST);
	if (err == -17) { /* EEXIST: the old entry is stale. From other network
			  * namespaces, two sockets can have the same key: then
			  * neither is trusted */
		struct origin *held = bpf_map_lookup_elem(&origins, &key);

		if (held)
			forget(&key, held->source);
		if (!key.netns)
			value.source = 0;
		err = bpf_map_update_elem(&origins, &key, &value, BPF_ANY);
	}
	if (err) {
		report_packet(REASON_LIMIT, st->source, st->destination, &key.target, &key.client);
	} else if (value.source) {
		use(value.source, 1);
		use(0, 1);
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void origin_ends(struct bpf_sock_ops *ctx, struct sock_state *st)
{
	struct origin_key key = {.netns = arrives_in(ctx, st)};
	struct origin *held;

	ends(ctx, &key.client, &key.target);
	held = bpf_map_lookup_elem(&origins, &key);
	if (held && held->cookie == bpf_get_socket_cookie(ctx))
		forget(&key, held->source);
}

/* keep_origin writes the identity into the accepted socket's storage. */
static __always_inline struct sock_state *keep_origin(struct bpf_sock *sk, const struct origin *o, enum mode mode)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!st)
		return 0;
	st->source = o->source;
	st->destination = o->destination;
	st->mode = mode;
	return st;
}

/* name_client has accept() and getpeername() return the source's virtual address. */
static __always_inline void name_client(const struct config *s, struct sock_state *st, const struct origin_key *key, enum naming named)
{
	struct address none4 = from4(0), none6 = {};

	if (!st)
		return;
	st->actual = key->client;
	st->peer.addr = virtual_of(s, st->source, named == NAMED_4 ? &none4 : &none6);
	st->peer.port = key->client.port;
}

/* inner_naming names all clients in another network namespace, where no socket can be
 * bound to a virtual address: the answers would be routed to the host. */
static __always_inline enum naming inner_naming(const struct config *s, const struct origin *o, const struct origin_key *key)
{
	struct guard_value *g;

	if (o->source == o->destination || is_check(s, o->source))
		return NAMED_NOT;
	g = inner_guard(o->destination, key->target.port);
	if (g && (g->flags & GUARD_LOOPBACK))
		return NAMED_NOT;
	return is4(&key->client.addr) ? NAMED_4 : NAMED_6;
}

/* hide_loopback: the record of a caller that has closed its socket may be gone before
 * its last packet of the handshake arrives. What it sent can still be read, so that the
 * program must not take it for a caller from ::1, which nobody vouches for. */
static __always_inline void hide_loopback(const struct config *s, struct bpf_sock *sk, const struct origin_key *key)
{
	struct guard_key port = {.port = key->target.port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &port);
	struct origin nobody = {};

	if (g && !(g->flags & (GUARD_PERMISSIVE | GUARD_LOOPBACK)) && !is4(&key->client.addr) && !in_range(s, &key->client.addr))
		name_client(s, keep_origin(sk, &nobody, MODE_INNER), key, NAMED_6);
}

/* plain_arrives reports a plain connection to a permissive port, once it is accepted.
 * The connect hook has reported those of this node. */
static __always_inline void plain_arrives(struct origin_key *key)
{
	struct guard_key port = {.port = key->target.port};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &port);

	if (g && (g->flags & GUARD_PERMISSIVE) && !is_local(&key->client.addr))
		report_packet(REASON_PERMISSIVE, 0, g->service, &key->target, &key->client);
}

/* origin_arrives runs when a connection is accepted, and removes its record. The
 * record of another connection to which NAT gives the same addresses has another
 * sequence number, and stays. */
static __always_inline void origin_arrives(struct bpf_sock_ops *ctx, const struct config *s)
{
	struct origin_key key = {.netns = bpf_get_netns_cookie(ctx)};
	bool home = key.netns == s->netns;
	struct bpf_sock *sk = ctx->sk;
	enum naming named;
	struct origin *o;

	if (!sk)
		return;
	ends(ctx, &key.target, &key.client);
	o = bpf_map_lookup_elem(&origins, &key);
	if (!o && home) {
		key.netns = 0;
		o = bpf_map_lookup_elem(&origins, &key);
	}
	if (!o && home)
		plain_arrives(&key);
	if (!o || !o->source || o->sequence + 1 != ctx->rcv_nxt) {
		if (home)
			hide_loopback(s, sk, &key);
		return;
	}
	named = home ? o->named : inner_naming(s, o, &key);
	if (named)
		name_client(s, keep_origin(sk, o, MODE_INNER), &key, named);
	else if (!home)
		keep_origin(sk, o, MODE_INNER);
	else if (in_range(s, &key.target.addr))
		keep_origin(sk, o, MODE_ACCEPTED);
	forget(&key, o->source);
}

/* established_local judges a same-node connection again: policy may have changed
 * after connect(), and the sweep may have run before the connection was there. The
 * daemon sweeps again when it receives the event. */
static __always_inline void established_local(struct sock_state *st)
{
	struct pair who = {.source = st->source, .destination = st->destination};

	if (st->source != st->destination && decide(st->source, st->destination) != REASON_ALLOWED)
		notify(REASON_CHANGED, &who, 0, 0, false); /* no target: nothing is cut yet */
}

static __always_inline void on_sockops(struct bpf_sock_ops *ctx)
{
	struct config *s = get_settings();
	struct bpf_sock *sk = ctx->sk;
	struct sock_state *st;

	if (!s || !sk)
		return;
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		announce(bpf_get_netns_cookie(ctx), creator_of(sk), bpf_htons((__u16)FIELD(ctx, local_port)));
		return;
	}
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		origin_arrives(ctx, s);
		return;
	}
	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    ctx->op != BPF_SOCK_OPS_STATE_CB)
		return;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!st)
		return;
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && st->mode == MODE_LOCAL)
		established_local(st);
	if (st->mode != MODE_CAPTURE && st->mode != MODE_LOCAL && st->mode != MODE_TAG && st->mode != MODE_CUT)
		return;
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
		origin_begins(ctx, sk, st);
		return;
	}
	if (ctx->op != BPF_SOCK_OPS_STATE_CB || ctx->args[1] != BPF_TCP_CLOSE)
		return;
	origin_ends(ctx, st);
	direct_ends(ctx, sk, st);
}
