/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Addresses. IPv4 is kept as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2), so that
 * one type serves both families. */
#pragma once

#include "maps.h"

#define MAPPED bpf_htonl(0x0000ffff)
#define LOOPBACK_IFINDEX 1 /* in every network namespace */

static __always_inline struct address from4(__u32 ip)
{
	return (struct address){{0, 0, MAPPED, ip}};
}

static __always_inline struct address from6(__u32 a, __u32 b, __u32 c, __u32 d)
{
	return (struct address){{a, b, c, d}};
}

static __always_inline bool is4(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == MAPPED;
}

/* FIELD reads a field of the context. The verifier rejects access by a modified
 * context pointer, which the compiler makes where it shares the address of a field
 * between branches; inline assembly keeps it from doing so. */
#define FIELD(ctx, field)                                               \
	({                                                              \
		__u32 value_;                                           \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                   \
			     : "=r"(value_)                             \
			     : "r"(ctx), "i"(__builtin_offsetof(typeof(*(ctx)), field))); \
		value_;                                                 \
	})

/* number_of returns the service of virtual address a, 0 for none. The caller
 * has checked in_range. */
static __always_inline __u32 number_of(const struct config *s, const struct address *a)
{
	if (is4(a))
		return bpf_ntohl(a->word[3] & ~s->mask4);
	if (a->word[0] != s->virtual6.word[0] || a->word[1] != s->virtual6.word[1] || a->word[2] != s->virtual6.word[2])
		return 0;
	return bpf_ntohl(a->word[3]);
}

/* in_range returns whether a is in a virtual range, whether a service has it or not. */
static __always_inline bool in_range(const struct config *s, const struct address *a)
{
	if (is4(a))
		return s->mask4 && (a->word[3] & s->mask4) == s->virtual4;
	return s->mask6.word[0] &&
	       (a->word[0] & s->mask6.word[0]) == s->virtual6.word[0] &&
	       (a->word[1] & s->mask6.word[1]) == s->virtual6.word[1] &&
	       (a->word[2] & s->mask6.word[2]) == s->virtual6.word[2];
}

/* virtual_of returns the service's virtual address in the address family of like. */
static __always_inline struct address virtual_of(const struct config *s, __u32 service, const struct address *like)
{
	if (is4(like))
		return from4(s->virtual4 | bpf_htonl(service));
	return from6(s->virtual6.word[0], s->virtual6.word[1], s->virtual6.word[2], bpf_htonl(service));
}

/* is_check returns whether the source is the daemon's health checks. */
static __always_inline bool is_check(const struct config *s, __u32 source)
{
	return source == bpf_ntohl(~s->mask4) - RESERVED_CHECKS;
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

static __always_inline bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && same_address(&a->addr, &b->addr);
}

/* is_any returns true for 0.0.0.0 and ::. */
static __always_inline bool is_any(const struct address *a)
{
	return !a->word[0] && !a->word[1] && (!a->word[2] || a->word[2] == MAPPED) && !a->word[3];
}

/* is_loopback returns true for 127.0.0.0/8, ::1 and the unspecified addresses:
 * connect() takes the latter for loopback. */
static __always_inline bool is_loopback(const struct address *a)
{
	if (is4(a))
		return (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) || !a->word[3];
	return !a->word[0] && !a->word[1] && !a->word[2] && (!a->word[3] || a->word[3] == bpf_htonl(1));
}

/* is_exempt_target returns whether the operator has excluded the target. Virtual
 * addresses and service ports of this node can't be excluded: classify looks for
 * those first. */
static __always_inline bool is_exempt_target(const struct config *s, const struct endpoint *to)
{
	struct net_key net = {.prefixlen = 128, .addr = to->addr};
	struct guard_key port = {.port = to->port};

	if (!s->exclusions)
		return false;
	return bpf_map_lookup_elem(&exempt_ports, &port) || bpf_map_lookup_elem(&exempt_nets, &net);
}

static __always_inline bool is_local(const struct address *a)
{
	return is_loopback(a) || bpf_map_lookup_elem(&locals, a);
}
