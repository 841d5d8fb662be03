/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* sk_lookup: who receives a connection that arrives in the daemon's network
 * namespace. It delivers captured ones, and is the guard of service ports. */
#pragma once

#include "address.h"
#include "report.h"

static __always_inline int deliver(struct bpf_sk_lookup *ctx, const struct address *to)
{
	__u32 family = is4(to) ? 0 : 1;
	struct bpf_sock *sk;
	long err;

	if (ctx->protocol != IPPROTO_TCP) {
		count(REASON_UDP);
		return SK_DROP;
	}
	if (ctx->ingress_ifindex != LOOPBACK_IFINDEX) {
		count(REASON_GUARD); /* from another host, or not captured by TPROXY */
		return SK_DROP;
	}
	sk = bpf_map_lookup_elem(&listeners, &family);
	if (!sk) {
		count(REASON_DAEMON);
		return SK_DROP;
	}
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

static __always_inline int guarded(struct bpf_sk_lookup *ctx, const struct address *to)
{
	struct guard_key key = {.port = bpf_htons((__u16)FIELD(ctx, local_port))};
	struct guard_value *g = bpf_map_lookup_elem(&guards, &key);
	struct endpoint target = {.addr = *to, .port = key.port};

	if (!g)
		return SK_PASS;
	if (g->permissive) {
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
	struct address to;

	if (!s)
		return SK_PASS;
	to = ctx->family == AF_INET
		? from4(FIELD(ctx, local_ip4))
		: from6(FIELD(ctx, local_ip6[0]), FIELD(ctx, local_ip6[1]), FIELD(ctx, local_ip6[2]), FIELD(ctx, local_ip6[3]));
	if (in_range(s, &to))
		return deliver(ctx, &to);
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->ingress_ifindex != LOOPBACK_IFINDEX)
		return guarded(ctx, &to);
	/* TPROXY's look-ups don't come from lo */
	return is_proxy(s, &to, FIELD(ctx, local_port)) ? SK_DROP : SK_PASS;
}
