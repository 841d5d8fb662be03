//go:build ignore

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The entry points: they read the context of each program type and write the
 * result back. The headers make the decisions, one header for each concern. */

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_RAW 3
#define ECONNREFUSED 111
#define EACCES 13
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

#include "connect.h"
#include "lookup.h"
#include "egress.h"
#include "inner.h"
#include "leaving.h"
#include "unix.h"
#include "origins.h"
#include "sweep.h"

/* Some helpers are for GPL-compatible programs only: these are licensed under
 * Apache-2.0 or, as an alternative, GPL-2.0. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* These types belong to no map. A variable makes the compiler describe them in
 * BTF, from which bpf2go generates the Go types and constants. */
const struct unmapped {
	struct event event;
	enum special special;
	enum depth depth;
	enum reserved reserved;
	enum listener listener;
} *unmapped __attribute__((unused));

static __always_inline int refused(void)
{
	bpf_set_retval(-ECONNREFUSED);
	return 0;
}

static __always_inline int on_call4(struct bpf_sock_addr *ctx, bool sending)
{
	struct call c = {.to = {.addr = from4(FIELD(ctx, user_ip4)), .port = (__u16)ctx->user_port}};
	int outcome = on_call(ctx, &c, sending);

	if (outcome == REFUSE)
		return refused();
	if (outcome == REWRITE) {
		ctx->user_ip4 = c.to.addr.word[3];
		ctx->user_port = c.to.port;
	}
	return 1;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	ctx->user_ip6[0] = to->addr.word[0];
	ctx->user_ip6[1] = to->addr.word[1];
	ctx->user_ip6[2] = to->addr.word[2];
	ctx->user_ip6[3] = to->addr.word[3];
	ctx->user_port = to->port;
}

static __always_inline int on_call6(struct bpf_sock_addr *ctx, bool sending)
{
	struct call c = {.to = {.port = (__u16)ctx->user_port}};
	int outcome;

	c.to.addr = from6(FIELD(ctx, user_ip6[0]), FIELD(ctx, user_ip6[1]), FIELD(ctx, user_ip6[2]), FIELD(ctx, user_ip6[3]));
	outcome = on_call(ctx, &c, sending);
	if (outcome == REFUSE)
		return refused();
	if (outcome == REWRITE)
		write6(ctx, &c.to);
	return 1;
}

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	return on_call4(ctx, false);
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	return on_call6(ctx, false);
}

SEC("cgroup/sendmsg4")
int mesh_sendmsg4(struct bpf_sock_addr *ctx)
{
	return on_call4(ctx, true);
}

SEC("cgroup/sendmsg6")
int mesh_sendmsg6(struct bpf_sock_addr *ctx)
{
	return on_call6(ctx, true);
}

/* A datagram from the daemon's DNS listener shows the resolver that the program
 * asked as its source address. */
SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint from = {.addr = from4(FIELD(ctx, user_ip4)), .port = (__u16)ctx->user_port};

	if (from_names(ctx, &from)) {
		ctx->user_ip4 = from.addr.word[3];
		ctx->user_port = from.port;
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint from = {.port = (__u16)ctx->user_port};

	from.addr = from6(FIELD(ctx, user_ip6[0]), FIELD(ctx, user_ip6[1]), FIELD(ctx, user_ip6[2]), FIELD(ctx, user_ip6[3]));
	if (from_names(ctx, &from))
		write6(ctx, &from);
	return 1;
}

/* getpeername() returns the peer that the program passed to connect(). */
SEC("cgroup/getpeername4")
int mesh_peername4(struct bpf_sock_addr *ctx)
{
	struct endpoint peer = {.addr = from4(FIELD(ctx, user_ip4)), .port = (__u16)ctx->user_port};

	if (on_peername(ctx, &peer)) {
		ctx->user_ip4 = peer.addr.word[3];
		ctx->user_port = peer.port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int mesh_peername6(struct bpf_sock_addr *ctx)
{
	struct endpoint peer = {.port = (__u16)ctx->user_port};

	peer.addr = from6(FIELD(ctx, user_ip6[0]), FIELD(ctx, user_ip6[1]), FIELD(ctx, user_ip6[2]), FIELD(ctx, user_ip6[3]));
	if (on_peername(ctx, &peer))
		write6(ctx, &peer);
	return 1;
}

SEC("cgroup/connect_unix")
int mesh_unix(struct bpf_sock_addr *ctx)
{
	return on_unix(ctx) ? 1 : refused();
}

SEC("cgroup/sock_create")
int mesh_create(struct bpf_sock *sk)
{
	remember_creator(sk);
	return 1;
}

/* The daemon counts as dead as soon as one of its listeners is closed: the kernel
 * closes them however the daemon ends. */
SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *sk)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u32 zero = 0;

	if (st && st->mode == MODE_SERVING)
		bpf_map_update_elem(&alive, &zero, &zero, BPF_ANY);
	released(sk, st);
	return 1;
}

static __always_inline int on_bind(struct bpf_sock_addr *ctx, struct endpoint *at)
{
	if (may_bind(ctx, at))
		return 1;
	bpf_set_retval(-EACCES);
	return 0;
}

SEC("cgroup/bind4")
int mesh_bind4(struct bpf_sock_addr *ctx)
{
	struct endpoint at = {.addr = from4(FIELD(ctx, user_ip4)), .port = (__u16)ctx->user_port};

	return on_bind(ctx, &at);
}

SEC("cgroup/bind6")
int mesh_bind6(struct bpf_sock_addr *ctx)
{
	struct endpoint at = {.port = (__u16)ctx->user_port};

	at.addr = from6(FIELD(ctx, user_ip6[0]), FIELD(ctx, user_ip6[1]), FIELD(ctx, user_ip6[2]), FIELD(ctx, user_ip6[3]));
	return on_bind(ctx, &at);
}

SEC("cgroup_skb/egress")
int mesh_egress(struct __sk_buff *skb)
{
	return on_egress(skb);
}

SEC("cgroup_skb/ingress")
int mesh_ingress(struct __sk_buff *skb)
{
	return on_ingress(skb);
}

SEC("netfilter")
int mesh_leaving(struct bpf_nf_ctx *ctx)
{
	return on_leaving(ctx);
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ctx)
{
	on_sockops(ctx);
	return 1;
}

SEC("sk_lookup")
int mesh_lookup(struct bpf_sk_lookup *ctx)
{
	return on_lookup(ctx);
}

SEC("iter/tcp")
int mesh_sweep(struct bpf_iter__tcp *ctx)
{
	return on_socket(ctx);
}

/* For tests: the decision on a pair of service numbers. */
SEC("syscall")
int mesh_decide(struct question *q)
{
	return decide_for(q->source, q->destination, q->ingress);
}
