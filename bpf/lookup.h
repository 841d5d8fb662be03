/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* sk_lookup: who receives a connection that arrives in the daemon's network
 * namespace. It delivers captured ones, and is the guard of service ports. */
#pragma once

#include "address.h"
#include "decide.h"
#include "report.h"
#include "resolve.h"

/* client_of is who sent the first packet. */
static __always_inline struct address client_of(struct bpf_sk_lookup *ctx)
{
	if (ctx->family == AF_INET)
		return from4(FIELD(ctx, remote_ip4));
	return from6(FIELD(ctx, remote_ip6[0]), FIELD(ctx, remote_ip6[1]), FIELD(ctx, remote_ip6[2]), FIELD(ctx, remote_ip6[3]));
}

/* judged says whether the hooks have let this very connection go: one of the
 * namespace with that cookie, 0 for another than the daemon's. */
static __always_inline bool judged(struct bpf_sk_lookup *ctx, __u64 netns, const struct address *to)
{
	struct origin_key key = {
		.netns = netns,
		.client = {.addr = client_of(ctx), .port = (__u16)ctx->remote_port},
		.target = {.addr = *to, .port = bpf_htons((__u16)FIELD(ctx, local_port))},
	};
	struct origin *o = bpf_map_lookup_elem(&origins, &key);

	return o && o->source;
}

/* guest judges a caller whom no hook sees, a virtual machine: it is known by
 * the interface that leads to it alone. */
static __always_inline bool guest(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct workload *w = bpf_map_lookup_elem(&interfaces, &ifindex);
	struct endpoint target = {.addr = *to, .port = bpf_htons((__u16)FIELD(ctx, local_port))};
	__u32 reason;

	if (!w)
		return false;
	reason = decide(w->service, number_of(s, to));
	if (reason != REASON_ALLOWED)
		report_packet(reason, w->service, number_of(s, to), &target);
	return reason == REASON_ALLOWED;
}

/* assign hands the packet to a listener of the daemon's; absent is for when
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

/* asks_resolver: another namespace asks a resolver of the host. TPROXY takes
 * such packets only where it finds a socket for them: that of the daemon, while
 * there is one. */
static __always_inline bool asks_resolver(struct bpf_sk_lookup *ctx, const struct address *to, const struct address *from)
{
	if (ctx->local_port != DNS_PORT || ctx->ingress_ifindex == LOOPBACK_IFINDEX || !ctx->ingress_ifindex)
		return false;
	return bpf_map_lookup_elem(&resolvers, to) && !bpf_map_lookup_elem(&locals, from);
}

static __always_inline int deliver(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	if (ctx->protocol != IPPROTO_TCP) {
		count(REASON_UDP);
		return SK_DROP;
	}
	if (!judged(ctx, s->netns, to) && !judged(ctx, 0, to) && !guest(ctx, s, to)) {
		count(REASON_GUARD); /* from another host, from nobody, or made by hand */
		return SK_DROP;
	}
	return assign(ctx, LISTENER_PROXY, to, SK_DROP);
}

static __always_inline int guarded(struct bpf_sk_lookup *ctx, const struct config *s, const struct address *to)
{
	struct guard_key key = {.port = bpf_htons((__u16)FIELD(ctx, local_port))};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &key);
	struct endpoint target = {.addr = *to, .port = key.port};

	if (!g || judged(ctx, s->netns, to))
		return SK_PASS;
	if (g->flags & GUARD_PERMISSIVE) {
		count(REASON_PERMISSIVE);
		return SK_PASS;
	}
	report_packet(REASON_GUARD, 0, g->service, &target);
	return SK_DROP;
}

/* is_proxy: the daemon's own port, which is no proxy for those who find it.
 * When the daemon is dead, the port is anybody's. */
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
	if (ctx->protocol != IPPROTO_TCP || !ctx->ingress_ifindex) /* our own question, in listener.h */
		return SK_PASS;
	/* TPROXY's look-ups don't come from lo */
	if (ctx->ingress_ifindex == LOOPBACK_IFINDEX && is_proxy(s, &to, FIELD(ctx, local_port)))
		return SK_DROP;
	return guarded(ctx, s, &to);
}
