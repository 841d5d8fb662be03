/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The netfilter program at the post-routing hook drops packets for virtual addresses
 * that leave by another interface than loopback, as they do while the routes that
 * keep them on this host are missing: a container's, if this host forwards, and the
 * kernel's own, such as the ACK of a connection in TIME_WAIT. Egress filters of
 * cgroups see neither. Flushing iptables or nftables doesn't remove the program,
 * which is in no table. */
#pragma once

#include "address.h"
#include "report.h"

#define NF_DROP 0
#define NF_ACCEPT 1

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

/* of_program returns whether a program's socket sends the packet. on_egress()
 * judges those, and knows the sender. The kernel's own sockets are raw ones. */
static __always_inline bool of_program(struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (!sk || sk->sk_type == SOCK_RAW)
		return false;
	return sk->__sk_common.skc_state != BPF_TCP_TIME_WAIT && sk->__sk_common.skc_state != BPF_TCP_NEW_SYN_RECV;
}

static __always_inline int on_leaving(struct bpf_nf_ctx *ctx)
{
	struct config *s = get_settings();
	struct endpoint target = {};
	struct bpf_dynptr packet;

	if (!s || ctx->state->out->ifindex == LOOPBACK_IFINDEX || of_program(ctx->skb))
		return NF_ACCEPT;
	if (bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &packet) || !goes_to(&packet, &target.addr))
		return NF_ACCEPT;
	if (!in_range(s, &target.addr))
		return NF_ACCEPT;
	report_packet(ctx->state->in ? REASON_DIVERTED : REASON_DEVICE, 0, number_of(s, &target.addr), &target, 0);
	return NF_DROP;
}
