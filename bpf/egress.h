/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* cgroup_skb/egress drops what must not leave the host: packets for virtual
 * addresses, packets of captured connections, and queries for mesh names. Routes
 * keep virtual addresses on loopback, but a socket bound to a device bypasses them,
 * and may be bound after connect(). A NAT rule may redirect a captured connection. */
#pragma once

#include "address.h"
#include "names.h"
#include "report.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPV6_HEADER 40 /* RFC 8200 */

struct packet {
	struct endpoint to;
	__u32 payload; /* offset of the transport header */
	__u32 protocol;
};

static __always_inline bool packet4(struct __sk_buff *skb, struct packet *p)
{
	__u8 head[20]; /* RFC 791 */

	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return false;
	p->to.addr = from4(*(__u32 *)(head + 16));
	p->payload = (head[0] & 15) * 4;
	p->protocol = head[9];
	return true;
}

static __always_inline bool packet6(struct __sk_buff *skb, struct packet *p)
{
	__u8 next;

	if (bpf_skb_load_bytes(skb, 24, &p->to.addr, sizeof(p->to.addr)) || bpf_skb_load_bytes(skb, 6, &next, 1))
		return false;
	p->payload = IPV6_HEADER;
	p->protocol = next;
	return true;
}

static __always_inline bool unpack(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return packet4(skb, p);
	return skb->protocol == bpf_htons(ETH_P_IPV6) && packet6(skb, p);
}

/* state_of_packet returns the storage of the socket that sends the packet, or 0. */
static __always_inline struct sock_state *state_of_packet(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : 0;
}

/* message_of returns the offset of the DNS message in a packet to port 53, else 0. */
static __always_inline __u32 message_of(struct __sk_buff *skb, struct packet *p)
{
	__u32 at = p->payload;
	__u8 words;

	if (p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_TCP)
		return 0;
	if (bpf_skb_load_bytes(skb, at + 2, &p->to.port, sizeof(p->to.port)) || p->to.port != bpf_htons(DNS_PORT))
		return 0;
	if (p->protocol == IPPROTO_UDP)
		return at + 8; /* RFC 768 */
	if (bpf_skb_load_bytes(skb, at + 12, &words, 1))
		return 0;
	return at + (words >> 4) * 4 + 2; /* RFC 9293; two bytes of length (RFC 1035, section 4.2.2) */
}

/* leaks returns whether the packet carries a query for a mesh name to a server
 * other than the daemon. The daemon tags its sockets that ask for the real name of
 * an outside service. */
static __always_inline bool leaks(struct __sk_buff *skb, struct packet *p, struct sock_state *st)
{
	__u32 at = message_of(skb, p);

	if (!at || (st && st->mode == MODE_TAG) || (daemon_lives() && ((st && st->other_netns) || !bpf_map_lookup_elem(&resolvers, &p->to.addr))))
		return false;
	return asks_for_mesh(skb, at);
}

static __always_inline int on_egress(struct __sk_buff *skb)
{
	struct config *s = get_settings();
	struct packet p = {};
	struct sock_state *st;
	bool virtual;

	if (!s || skb->ifindex == LOOPBACK_IFINDEX || !unpack(skb, &p))
		return 1;
	virtual = in_range(s, &p.to.addr);
	st = state_of_packet(skb);
	if (virtual && !(st && st->other_netns && st->mode == MODE_CAPTURE)) {
		report_packet(REASON_DEVICE, st ? st->source : 0, number_of(s, &p.to.addr), &p.to, 0);
		return 0;
	}
	if (!virtual && st && (st->mode == MODE_CAPTURE || st->mode == MODE_LOCAL)) {
		report_packet(REASON_DIVERTED, st->source, st->destination, &p.to, 0);
		return 0;
	}
	if (!virtual && leaks(skb, &p, st)) { /* the daemon's own queries as well: at its start it doesn't know the services yet */
		report_packet(REASON_NAME, 0, 0, &p.to, 0);
		return 0;
	}
	return 1;
}
