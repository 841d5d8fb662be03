/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The sweep: same-node pairs whose verdict has changed are cut. */
#pragma once

#include "decide.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;
struct sock_common {
	unsigned short skc_family; /* a mere declaration would not match the kernel's type */
};
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};
#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

/* on_socket writes one byte for each pair that it cuts. */
static __always_inline int on_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct sock_state *st;

	if (!sk || (sk->skc_family != AF_INET && sk->skc_family != AF_INET6))
		return 0;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!st || st->mode != MODE_LOCAL || st->source == st->destination)
		return 0;
	if (decide(st->source, st->destination) == REASON_ALLOWED)
		return 0;
	if (!bpf_sock_destroy(sk))
		bpf_seq_write(ctx->meta->seq, "x", 1);
	return 0;
}
