/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The netfilter program at the forward hook drops packets for virtual addresses:
 * if the routes that keep them on this host are missing, a host that forwards would
 * send those of a container to its gateway. Flushing iptables or nftables doesn't
 * remove the program, which is in no table. */
#pragma once

#include "address.h"
#include "report.h"

#define NF_DROP 0
#define NF_ACCEPT 1

struct sk_buff;
struct nf_hook_state;
struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *out) __ksym;

/* goes_to reads the destination address. */
static __always_inline bool goes_to(struct bpf_dynptr *packet, struct address *to)
{
	__u32 ip = 0;
	__u8 first = 0;

	if (bpf_dynptr_read(&first, sizeof(first), packet, 0, 0))
		return false;
	if (first >> 4 == 6)
		return !bpf_dynptr_read(to, sizeof(*to), packet, 24, 0); /* RFC 8200 */
	if (bpf_dynptr_read(&ip, sizeof(ip), packet, 16, 0)) /* RFC 791 */
		return false;
	*to = from4(ip);
	return true;
}

static __always_inline int on_forward(struct bpf_nf_ctx *ctx)
{
	struct config *s = get_settings();
	struct endpoint target = {};
	struct bpf_dynptr packet;

	if (!s || bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &packet) || !goes_to(&packet, &target.addr))
		return NF_ACCEPT;
	if (!in_range(s, &target.addr))
		return NF_ACCEPT;
	report_packet(REASON_DIVERTED, 0, number_of(s, &target.addr), &target);
	return NF_DROP;
}
