/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Sums same-node connections, which go from program to program, when the caller's
 * socket closes: for each source, destination and reason one entry, which no burst of
 * connections can displace. */
#pragma once

#include "address.h"
#include "kernel.h"
#include "report.h"

#define SOCK_DONE_BIT 2 /* 1 << SOCK_DONE (include/net/sock.h): FIN has arrived */

/* end_of returns why a connection ended that was in the state old. */
static __always_inline __u32 end_of(struct tcp_sock *tcp, struct sock_state *st, __u32 old)
{
	if (st->mode == MODE_CUT)
		return REASON_CHANGED;
	if (old == BPF_TCP_SYN_SENT)
		return REASON_DIAL;
	if (old == BPF_TCP_ESTABLISHED || old == BPF_TCP_CLOSE_WAIT || tcp->inet_conn.icsk_inet.sk.sk_err)
		return REASON_RESET;
	return REASON_CLOSED;
}

static __always_inline struct direct_value *direct_sum(const struct direct_key *key)
{
	struct direct_value *sum = bpf_map_lookup_elem(&direct, key), none = {};

	if (sum)
		return sum;
	bpf_map_update_elem(&direct, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&direct, key);
}

static __always_inline void direct_ends(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct sock_state *st)
{
	struct direct_key key = {.source = st->source, .destination = st->destination, .port = (__u16)bpf_ntohl(FIELD(ctx, remote_port))};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct direct_value *sum;

	if (!tcp || (st->mode != MODE_LOCAL && st->mode != MODE_CUT) || is_own(st->source))
		return;
	key.reason = end_of(tcp, st, ctx->args[0]);
	sum = direct_sum(&key);
	if (!sum) {
		count_lost(key.reason);
		return;
	}
	__sync_fetch_and_add(&sum->connections, 1);
	__sync_fetch_and_add(&sum->sent, tcp->bytes_sent - tcp->bytes_retrans);
	/* the kernel counts FIN as a byte */
	__sync_fetch_and_add(&sum->received, tcp->bytes_received - !!(tcp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & SOCK_DONE_BIT));
}
