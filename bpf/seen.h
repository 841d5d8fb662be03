/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The peer address that a called program sees on this node: the virtual address of
 * the calling service. The connect hook binds the caller's socket to it, or else has
 * the program's accept() and getpeername() return it. */
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

/* plainly sees to it that the program finds the source's address in its socket: it
 * binds the caller's. It returns false where it can't: the program has bound the socket
 * itself, or the target is an IPv6 address. The kernel binds IPv6 sockets only to
 * addresses of an interface, or with IPV6_FREEBIND, which no hook can set. */
static __always_inline bool plainly(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, const struct address *to, enum guard_flag flags)
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

/* by_name has accept() and getpeername() of the program return the source's address
 * (origins.h). A program that is known by an IPv4 address sees IPv4 addresses. It
 * returns false for a connection between two addresses, since a NAT rule for all
 * traffic could change one of them, and for MPTCP, where the program's socket isn't
 * the one that sockops sees. */
static __always_inline bool by_name(struct bpf_sock_addr *ctx, struct call *c, const struct address *to, const struct port_value *v)
{
	struct bpf_sock *sk = ctx->sk;
	struct address own;

	if (!sk || is4(to) || bpf_skc_to_mptcp_sock(sk))
		return false;
	own = own_address(sk);
	if (!is_any(&own) && !same_address(&own, to))
		return false;
	c->named = is4(&v->local.addr) ? NAMED_4 : NAMED_6;
	return true;
}

/* shows has the program see the source's address, in one of the two ways. It returns
 * false where the daemon must carry the connection for that. */
static __always_inline bool shows(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, const struct address *to, const struct port_value *v)
{
	enum guard_flag flags = v->flags | (c->direct ? c->flags : 0);

	return plainly(ctx, s, c, to, flags) || (!(flags & GUARD_CARRIED) && by_name(ctx, c, to, v));
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
