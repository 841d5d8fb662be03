/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The peer address that a called program sees on this node: the virtual address of
 * the calling service, to which the connect hook binds the caller's socket. */
#pragma once

#include "call.h"

/* sockaddr_in and sockaddr_in6 of the kernel */
struct bind4 {
	__u16 family;
	__u16 port;
	__u32 addr;
	__u64 zero;
};

struct bind6 {
	__u16 family;
	__u16 port;
	__u32 flow;
	struct address addr;
	__u32 scope;
};

/* bind_to binds the caller's socket to an address, with any port. IPv4 addresses
 * are mapped for an IPv6 socket. */
static __always_inline bool bind_to(struct bpf_sock_addr *ctx, const struct address *at)
{
	struct bind4 v4 = {.family = AF_INET, .addr = at->word[3]};
	struct bind6 v6 = {.family = AF_INET6, .addr = *at};

	if (ctx->family == AF_INET)
		return !bpf_bind(ctx, (struct sockaddr *)&v4, sizeof(v4));
	return !bpf_bind(ctx, (struct sockaddr *)&v6, sizeof(v6));
}

/* own_address returns the address to which the socket is bound. */
static __always_inline struct address own_address(struct bpf_sock *sk)
{
	if (FIELD(sk, family) == AF_INET)
		return from4(FIELD(sk, src_ip4));
	return from6(FIELD(sk, src_ip6[0]), FIELD(sk, src_ip6[1]), FIELD(sk, src_ip6[2]), FIELD(sk, src_ip6[3]));
}

/* shows binds the socket of a caller on this node, and returns false where the
 * daemon must carry the connection to show the source: the program has bound the
 * socket itself, or the target is an IPv6 address. The kernel binds IPv6 sockets
 * only to addresses of an interface, or with IPV6_FREEBIND, which no hook can set. */
static __always_inline bool shows(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, const struct address *to, enum guard_flag flags)
{
	struct bpf_sock *sk = ctx->sk;
	struct address own, source = virtual_of(s, c->source, to);

	if (flags & GUARD_LOOPBACK)
		return true;
	if ((flags & GUARD_CARRIED) || !sk || !is4(to) || FIELD(sk, src_port))
		return false;
	own = own_address(sk);
	if (own.word[3] || own.word[0])
		return false;
	return bind_to(ctx, &source);
}

/* hide undoes what shows() did for an earlier connect() of the socket. */
static __always_inline bool hide(struct bpf_sock_addr *ctx, const struct config *s)
{
	struct bpf_sock *sk = ctx->sk;
	struct address own, none = {};

	if (!sk)
		return true;
	own = own_address(sk);
	return !in_range(s, &own) || bind_to(ctx, &none);
}
