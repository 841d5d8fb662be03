/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* sk_lookup chooses the socket for a packet that arrives in the daemon's network
 * namespace: it delivers captured connections to the daemon and guards the ports
 * of services. inner.h guards them in other namespaces. */
#pragma once

#include "address.h"
#include "decide.h"
#include "report.h"
#include "resolve.h"

/* client_of returns the source address of the packet. */
static __always_inline struct address client_of(struct bpf_sk_lookup *ctx)
{
	if (ctx->family == AF_INET)
		return from4(FIELD(ctx, remote_ip4));
	return from6(FIELD(ctx, remote_ip6[0]), FIELD(ctx, remote_ip6[1]), FIELD(ctx, remote_ip6[2]), FIELD(ctx, remote_ip6[3]));
}

/* has_origin returns whether the connect hook has allowed this connection, which
 * sockops has recorded. netns is as in struct origin_key. */
static __always_inline bool has_origin(struct bpf_sk_lookup *ctx, __u64 netns, const struct address *to)
{
	struct origin_key key = {
		.netns = netns,
		.client = {.addr = client_of(ctx), .port = (__u16)ctx->remote_port},
		.target = {.addr = *to, .port = bpf_htons((__u16)FIELD(ctx, local_port))},
	};
	struct origin *o = bpf_map_lookup_elem(&origins, &key);

	return o && o->source;
}

/* report_arrival reports a packet of a client, which may be a guest's. */
static __always_inline void report_arrival(struct bpf_sk_lookup *ctx, __u32 reason, __u32 source, __u32 destination, const struct address *to)
{
	struct endpoint target = {.addr = *to, .port = bpf_htons((__u16)FIELD(ctx, local_port))};
	struct endpoint client = {.addr = client_of(ctx), .port = (__u16)ctx->remote_port};

	report_packet(reason, source, destination, &target, &client);
}

/* unjudged returns why a packet is refused for which no connect() is recorded. The
 * connect hook has judged every program of this node, so on loopback it is a late
 * packet of a connection that has been reset or closed at the other end. */
static __always_inline __u32 unjudged(struct bpf_sk_lookup *ctx)
{
	return ctx->ingress_ifindex == LOOPBACK_IFINDEX ? REASON_LATE : REASON_GUARD;
}

/* guest_allowed judges a caller whose sockets no hook sees, such as a virtual
 * machine: its interface identifies it. */
static __always_inline bool guest_allowed(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct workload *w = bpf_map_lookup_elem(&interfaces, &ifindex);
	__u32 reason = w ? decide(w->service, number_of(s, to)) : unjudged(ctx);

	if (reason != REASON_ALLOWED)
		report_arrival(ctx, reason, w ? w->service : 0, number_of(s, to), to);
	return reason == REASON_ALLOWED;
}

/* assign gives the packet to a listener of the daemon, and returns absent where
 * there is none. */
static __always_inline int assign(struct bpf_sk_lookup *ctx, __u32 listener, const struct address *to, int absent)
{
	__u32 index = listener + (is4(to) ? 0 : 1);
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &index);
	long err;

	if (!sk)
		return absent;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

/* asks_resolver returns whether another network namespace queries a resolver of
 * the host. TPROXY takes such a packet only if a socket lookup finds a transparent
 * one: assign() answers that lookup with the daemon's. */
static __always_inline bool asks_resolver(struct bpf_sk_lookup *ctx, const struct address *to, const struct address *from)
{
	if (ctx->local_port != DNS_PORT || ctx->ingress_ifindex == LOOPBACK_IFINDEX || !ctx->ingress_ifindex)
		return false;
	return bpf_map_lookup_elem(&resolvers, to) && !bpf_map_lookup_elem(&locals, from);
}

static __always_inline int deliver(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	if (ctx->protocol != IPPROTO_TCP) {
		report_arrival(ctx, REASON_UDP, 0, number_of(s, to), to);
		return SK_DROP;
	}
	if (!has_origin(ctx, s->netns, to) && !has_origin(ctx, 0, to) && !guest_allowed(ctx, s, to))
		return SK_DROP;
	return assign(ctx, LISTENER_PROXY, to, SK_DROP);
}

static __always_inline int guarded(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	struct guard_key key = {.port = bpf_htons((__u16)FIELD(ctx, local_port))};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &key);

	if (!g || (g->flags & GUARD_PERMISSIVE) || has_origin(ctx, s->netns, to))
		return SK_PASS;
	report_arrival(ctx, unjudged(ctx), 0, g->service, to);
	return SK_DROP;
}

/* is_proxy returns whether the packet is for the daemon's own listening address:
 * connections to it are dropped, since they name no destination. After the daemon's
 * death any program may bind that port. */
static __always_inline bool is_proxy(const struct config *s, const struct address *to, __u32 port)
{
	__u32 family = is4(to) ? 0 : 1;
	struct bpf_sock *sk;

	if (port != (is4(to) ? s->listen4 : s->listen6) || !is_loopback(to))
		return false;
	sk = bpf_map_lookup_elem(&listeners, &family);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __always_inline int on_lookup(struct bpf_sk_lookup *ctx)
{
	struct config *s = get_settings();
	struct address to, from;

	if (!s)
		return SK_PASS;
	to = ctx->family == AF_INET
		? from4(FIELD(ctx, local_ip4))
		: from6(FIELD(ctx, local_ip6[0]), FIELD(ctx, local_ip6[1]), FIELD(ctx, local_ip6[2]), FIELD(ctx, local_ip6[3]));
	if (in_range(s, &to))
		return deliver(ctx, s, &to);
	from = client_of(ctx);
	if (asks_resolver(ctx, &to, &from))
		return assign(ctx, ctx->protocol == IPPROTO_TCP ? LISTENER_NAMES_TCP : LISTENER_NAMES_UDP, &to, SK_PASS);
	if (ctx->protocol != IPPROTO_TCP || !ctx->ingress_ifindex) /* no packet: a lookup by listener_at() */
		return SK_PASS;
	/* the lookups of TPROXY have another ingress interface than lo */
	if (ctx->ingress_ifindex == LOOPBACK_IFINDEX && is_proxy(s, &to, FIELD(ctx, local_port)))
		return SK_DROP;
	return guarded(ctx, s, &to);
}
