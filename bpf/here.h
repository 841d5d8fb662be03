/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Same-node calls: at which endpoint the caller's socket can reach the program itself,
 * and how the program learns who calls. What remains goes through the daemon: a socket
 * that can have no peer in the program's address family, one that the program has bound
 * to another address, and MPTCP, which could add subflows that no hook judges. */
#pragma once

#include "call.h"
#include "kernel.h"
#include "listener.h"
#include "seen.h"

static __always_inline bool only6(struct bpf_sock *sk)
{
	struct sock_common *common = (struct sock_common *)bpf_skc_to_tcp6_sock(sk);

	return !common || BPF_CORE_READ_BITFIELD(common, skc_ipv6only);
}

/* was4 returns whether an IPv6 socket has been connected to an IPv4 address before: the
 * kernel sends no IPv6 from it any more. */
static __always_inline bool was4(struct bpf_sock *sk)
{
	return !FIELD(sk, dst_ip6[0]) && !FIELD(sk, dst_ip6[1]) && FIELD(sk, dst_ip6[2]) == MAPPED;
}

/* reaches returns whether the socket can have a peer with that address, by its family,
 * IPV6_V6ONLY, and the address to which the program has bound it. */
static __always_inline bool reaches(struct bpf_sock_addr *ctx, const struct call *c, const struct address *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct address own;

	if (!sk || ctx->family == AF_INET)
		return is4(to);
	own = own_address(sk);
	if ((is4(to) || is4(&c->to.addr)) && (only6(sk) || !(is_any(&own) || is4(&own))))
		return false;
	return is4(to) || !(is4(&own) || was4(sk));
}

/* name_loopback replaces 0.0.0.0, for which the kernel would take the address to
 * which the socket is bound now. */
static __always_inline int name_loopback(struct call *c)
{
	if (!is4(&c->to.addr) || c->to.addr.word[3])
		return PASS;
	c->to.addr.word[3] = bpf_htonl(0x7f000001);
	c->asked = c->to;
	return REWRITE;
}

/* led_to has the call go to an endpoint of the program. */
static __always_inline int led_to(struct call *c, const struct endpoint *at)
{
	c->to = *at;
	return REWRITE;
}

/* beside finds a program that is known by 127.0.0.1 at [::1] as well, which only its own
 * workload counts for: a listener for both families, or one for each. */
static __always_inline int beside(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, const struct port_value *v)
{
	struct endpoint six = {.addr = from6(0, 0, 0, bpf_htonl(1)), .port = v->local.port};

	if (!is4(&v->local.addr) || !is_loopback(&v->local.addr) || !reaches(ctx, c, &six.addr))
		return CARRY;
	if (server_at(ctx, &six, c->destination) != SERVER_OWN || !shows(ctx, s, c, &six.addr, v))
		return CARRY;
	return led_to(c, &six);
}

/* to_program leads the call to the program, or returns CARRY. asked is who listens at
 * the program's own address that the caller has named, with c->direct. */
static __always_inline int to_program(struct bpf_sock_addr *ctx, const struct config *s, struct call *c, const struct port_value *v, int asked)
{
	bool fits = v->local.port && (c->direct || !bpf_skc_to_mptcp_sock(ctx->sk));
	int server = fits ? server_at(ctx, &v->local, c->destination) : SERVER_NONE;

	if (server == SERVER_OTHER && !(v->flags & GUARD_ANYONE))
		return refuse(c, REASON_LISTENER);
	/* if it has just ended, an instance elsewhere serves the call */
	if (!fits || (server == SERVER_NONE && v->remote))
		return CARRY;
	if (reaches(ctx, c, &v->local.addr))
		return shows(ctx, s, c, &v->local.addr, v) ? led_to(c, &v->local) : CARRY;
	if (c->direct && asked != SERVER_NONE && shows(ctx, s, c, &c->to.addr, v))
		return name_loopback(c);
	return beside(ctx, s, c, v);
}
