/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* What leaves the host: never a packet for a virtual address. A socket bound
 * to a device goes round the routes that keep those on loopback, and it may be
 * bound after connect(), so the last word is here. */
#pragma once

#include "address.h"
#include "report.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* destination_of reads where a packet goes; 0 when it is neither IPv4 nor IPv6. */
static __always_inline int destination_of(struct __sk_buff *skb, struct address *to)
{
	__u32 ip = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 16, &ip, sizeof(ip))) /* RFC 791: destination */
			return 0;
		*to = from4(ip);
		return 1;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	return !bpf_skb_load_bytes(skb, 24, to, sizeof(*to)); /* RFC 8200: destination */
}

/* by_veth: an allowed caller in another network namespace, whose packets TPROXY
 * captures on this host. */
static __always_inline int by_veth(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct sock_state *st;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	return st && st->foreign && st->mode == MODE_CAPTURE;
}

static __always_inline int on_egress(struct __sk_buff *skb)
{
	struct config *s = get_settings();
	struct endpoint target = {};

	if (!s || skb->ifindex == LOOPBACK_IFINDEX || !destination_of(skb, &target.addr))
		return 1;
	if (!in_range(s, &target.addr) || by_veth(skb))
		return 1;
	report_packet(REASON_DEVICE, 0, number_of(s, &target.addr), &target);
	return 0;
}
