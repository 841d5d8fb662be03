/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Guards services that listen in another network namespace, such as a container's.
 * No program of ours is attached there: a listener is known by who made it, so its
 * port is guarded in every namespace as soon as the workload is enrolled. What
 * reaches it has been recorded by sockops: the daemon's connections, and those that
 * the connect hook allowed to programs of the same namespace. */
#pragma once

#include "connect.h"
#include "egress.h"
#include "origins.h"

#define TCP_RST 4
#define TCP_SYN 2

struct tcp_head { /* RFC 9293 */
	__u16 source, destination;
	__u32 sequence, acknowledged;
	__u8 offset, flags;
	__u16 window;
};

struct arrival {
	struct origin_key key;
	__u32 sequence;
	__u8 flags; /* of TCP */
};

/* read_arrival returns false for a packet that it doesn't understand. */
static __always_inline bool read_arrival(struct __sk_buff *skb, struct arrival *a)
{
	struct packet p = {};
	struct tcp_head head;
	__u32 ip;

	if (!unpack(skb, &p) || p.protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, p.payload, &head, sizeof(head)))
		return false;
	a->key.target.addr = p.to.addr;
	a->key.client.port = head.source;
	a->key.target.port = head.destination;
	a->sequence = bpf_ntohl(head.sequence);
	a->flags = head.flags;
	if (!is4(&p.to.addr))
		return !bpf_skb_load_bytes(skb, 8, &a->key.client.addr, sizeof(a->key.client.addr)); /* RFC 8200 */
	if (bpf_skb_load_bytes(skb, 12, &ip, sizeof(ip))) /* RFC 791 */
		return false;
	a->key.client.addr = from4(ip);
	return true;
}

/* expected returns whether a connection that was allowed sent this packet. */
static __always_inline bool expected(struct __sk_buff *skb, struct arrival *a)
{
	struct origin *o;

	if (!read_arrival(skb, a))
		return false;
	if (a->flags & TCP_RST)
		return true;
	o = bpf_map_lookup_elem(&origins, &a->key);
	return o && o->source && (!(a->flags & TCP_SYN) || o->sequence == a->sequence);
}

/* plain_inner lets a plain connection to a permissive service in. It is reported once, by
 * its SYN; the connect hook has reported those of this node. */
static __always_inline int plain_inner(struct arrival *a, __u32 owner)
{
	if ((a->flags & TCP_SYN) && !is_local(&a->key.client.addr))
		report_packet(REASON_PERMISSIVE, 0, owner, &a->key.target, &a->key.client);
	return 1;
}

/* on_ingress judges what arrives at a listener: a SYN, and what completes the
 * handshake. Packets of connections have another socket. */
static __always_inline int on_ingress(struct __sk_buff *skb)
{
	struct config *s = get_settings();
	struct bpf_sock *sk = skb->sk;
	struct arrival a = {};
	struct guard_value *g;
	struct tcp_sock *tcp;
	__u32 owner;

	if (!s || !sk || sk->state != BPF_TCP_LISTEN)
		return 1;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 1;
	a.key.netns = netns_of(tcp);
	if (a.key.netns == s->netns)
		return 1; /* lookup.h guards the daemon's own */
	owner = creator_of(sk);
	if (!owner)
		owner = enrolled(tcp);
	g = inner_guard(owner, bpf_htons(tcp->inet_conn.icsk_inet.sk.__sk_common.skc_num));
	if (!g || expected(skb, &a))
		return 1;
	if (g->flags & GUARD_PERMISSIVE)
		return plain_inner(&a, owner);
	report_packet(REASON_GUARD, 0, owner, &a.key.target, &a.key.client);
	return 0;
}
