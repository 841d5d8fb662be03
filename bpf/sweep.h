/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The sweep: same-node pairs whose verdict has changed are cut. */
#pragma once

#include "decide.h"
#include "kernel.h"
#include "report.h"

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

/* on_socket writes one byte for each pair, then cuts it: when the output is
 * full, the kernel shows the same socket again. */
static __always_inline int on_socket(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct sock_state *st;
	char mark = 1;

	if (!sk || (sk->skc_family != AF_INET && sk->skc_family != AF_INET6))
		return 0;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!st || st->mode != MODE_LOCAL || st->source == st->destination)
		return 0;
	if (decide(st->source, st->destination) == REASON_ALLOWED)
		return 0;
	if (bpf_seq_write(ctx->meta->seq, &mark, sizeof(mark)))
		return 0;
	st->mode = MODE_NONE;
	count(REASON_CHANGED);
	bpf_sock_destroy(sk);
	return 0;
}
