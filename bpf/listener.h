/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Checks who listens: only the service's own workload may serve its port. A
 * listener's creator is in its socket storage, written at socket() or, where the
 * socket is older than the workload's enrolment, by the sweep (sweep.h). */
#pragma once

#include "address.h"
#include "kernel.h"
#include "report.h"
#include "source.h"

/* listener_at returns the socket that would accept a connection to that endpoint
 * in the caller's network namespace, or 0. The caller releases it. */
static __always_inline struct bpf_sock *listener_at(struct bpf_sock_addr *ctx, const struct endpoint *at, bool udp)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sizeof(t.ipv4);

	if (is4(&at->addr)) {
		t.ipv4.daddr = at->addr.word[3] ? at->addr.word[3] : bpf_htonl(0x7f000001);
		t.ipv4.dport = at->port;
	} else {
		__builtin_memcpy(t.ipv6.daddr, at->addr.word, sizeof(t.ipv6.daddr));
		if (is_loopback(&at->addr))
			t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.dport = at->port;
		size = sizeof(t.ipv6);
	}
	if (udp)
		return bpf_sk_lookup_udp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_tcp(ctx, &t, size, BPF_F_CURRENT_NETNS, 0);
}

/* creator_of returns the service that created the socket. For an MPTCP listener,
 * the storage belongs to the outer socket that the program holds. */
static __always_inline __u32 creator_of(struct bpf_sock *sk)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct mptcp_sock *m;

	if (!st) {
		m = bpf_skc_to_mptcp_sock(sk);
		st = m ? bpf_sk_storage_get(&sockets, m, 0, 0) : 0;
	}
	return st ? st->creator : 0;
}

#define MAX_ANCESTORS 32

/* netns_of returns the cookie of the socket's network namespace. Not all program
 * types have bpf_get_netns_cookie(). */
static __always_inline __u64 netns_of(struct tcp_sock *sk)
{
	return sk->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->net_cookie;
}

/* enrolled returns the service of the cgroup in which the socket was created, else
 * of its network namespace, else of the user who created it, else 0. */
static __always_inline __u32 enrolled(struct tcp_sock *sk)
{
	struct cgroup_subsys_state *parent;
	struct workload *w;
	struct cgroup *at;
	__u64 netns;
	__u32 uid;
	int i;

	if (!sk)
		return 0;
	at = sk->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
	for (i = 0; i < MAX_ANCESTORS && at; i++) {
		__u64 id = at->kn->id;

		w = bpf_map_lookup_elem(&workloads, &id);
		if (w && w->service != EXEMPT_SERVICE)
			return w->service;
		parent = at->self.parent;
		at = parent ? parent->cgroup : 0;
	}
	netns = netns_of(sk);
	w = bpf_map_lookup_elem(&namespaces, &netns);
	if (w)
		return w->service;
	uid = sk->inet_conn.icsk_inet.sk.sk_uid.val;
	w = bpf_map_lookup_elem(&users, &uid);
	return w && w->service != EXEMPT_SERVICE ? w->service : 0;
}

/* inner_guard returns the guard of a service's port in other network namespaces
 * than the daemon's, or 0. */
static __always_inline struct guard_value *inner_guard(__u32 service, __u16 port)
{
	struct port_key key = {.service = service, .port = port};

	return service ? bpf_map_lookup_elem(&inner_guards, &key) : 0;
}

enum server {
	SERVER_NONE,  /* nobody: or the listener is bound to a device, which a lookup without a packet doesn't match */
	SERVER_OWN,
	SERVER_OTHER, /* a socket of another creator */
};

/* server_at returns who would accept a connection to that endpoint of the service. */
__noinline int server_at(struct bpf_sock_addr *ctx, const struct endpoint *at, __u32 service)
{
	struct bpf_sock *sk;
	int server;

	if (!at)
		return SERVER_OTHER;
	sk = listener_at(ctx, at, false);
	if (!sk)
		return SERVER_NONE;
	server = creator_of(sk) == service ? SERVER_OWN : SERVER_OTHER;
	bpf_sk_release(sk);
	return server;
}

/* owned returns whether a connection to that endpoint can only reach a socket of the
 * service. A port that is shared by SO_REUSEPORT can have sockets of others, of which a
 * lookup without a packet doesn't show which one gets the connection. */
__noinline int owned(struct bpf_sock_addr *ctx, const struct endpoint *at, __u32 service)
{
	struct sock_common *common;
	struct bpf_sock *sk;
	bool out;

	if (!at)
		return false;
	sk = listener_at(ctx, at, false);
	if (!sk)
		return false;
	common = (struct sock_common *)bpf_skc_to_tcp_sock(sk);
	out = creator_of(sk) == service && common && !BPF_CORE_READ_BITFIELD(common, skc_reuseport);
	bpf_sk_release(sk);
	return out;
}

/* announce tells the daemon that a program begins or ceases to listen on a service's
 * port, just before it does. Where the ring buffer is full, the daemon has yet to
 * read an announcement, after which it looks at all listeners. */
static __always_inline void announce(__u64 netns, __u32 owner, __u16 port)
{
	struct config *s = bpf_map_lookup_elem(&settings, &(__u32){0});
	struct guard_key key = {.port = port};
	struct guard_value *g;

	if (!s)
		return;
	g = netns == s->netns ? bpf_map_lookup_elem(&guards, &key) : inner_guard(owner, port);
	if (g)
		bpf_ringbuf_output(&announced, &key, sizeof(key), 0);
}

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;

/* released announces a closed listener. The context has no local port here. */
static __always_inline void released(struct bpf_sock *ctx, const struct sock_state *st)
{
	struct sock *sk;

	if (ctx->state != BPF_TCP_LISTEN)
		return;
	sk = bpf_cast_to_kern_ctx(ctx);
	announce(bpf_get_netns_cookie(ctx), st ? st->creator : 0, bpf_htons(sk->__sk_common.skc_num));
}

/* held returns whether the service already listens on that port, at an address
 * where a second listener would take some or all of its connections. */
static __always_inline bool held(struct bpf_sock_addr *ctx, const struct endpoint *at, __u32 service)
{
	struct endpoint here[] = {
		*at,
		{.addr = from4(bpf_htonl(0x7f000001)), .port = at->port},
		{.addr = from6(0, 0, 0, bpf_htonl(1)), .port = at->port},
	};
	int i;

	for (i = 0; i < 3; i++) {
		struct bpf_sock *sk = listener_at(ctx, &here[i], false);
		bool own;

		if (!sk)
			continue;
		own = creator_of(sk) == service;
		bpf_sk_release(sk);
		if (own)
			return true;
	}
	return false;
}

/* may_bind: nobody but the daemon binds a virtual address, since servers know
 * callers by it. And while a service listens on its port, no other program can bind it.
 * While there is no listener, any program can: it may be the service itself,
 * restarted in a new cgroup that isn't enrolled yet. A program of another service
 * gains nothing by it, since place() refuses connections to its socket. */
__noinline int may_bind(struct bpf_sock_addr *ctx, struct endpoint *at)
{
	struct config *s = bpf_map_lookup_elem(&settings, &(__u32){0});
	struct guard_key key = {};
	struct guard_value *g;
	__u64 netns = bpf_get_netns_cookie(ctx);
	__u32 source = 0;

	if (!s || !at || netns != s->netns || is_daemon(s))
		return true;
	if (in_range(s, &at->addr)) {
		report(REASON_LISTENER, 0, number_of(s, &at->addr), at);
		return false;
	}
	if (ctx->type != SOCK_STREAM)
		return true;
	key.port = at->port;
	g = bpf_map_lookup_elem(&guards, &key);
	if (!g || !g->service || (g->flags & (GUARD_ANYONE | GUARD_PERMISSIVE)))
		return true;
	if ((!find_source(netns, &source) && source == g->service) || !held(ctx, at, g->service))
		return true;
	report(REASON_LISTENER, source == EXEMPT_SERVICE ? 0 : source, g->service, at);
	return false;
}
