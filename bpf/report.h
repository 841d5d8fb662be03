/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* What people get to see: a counter for each reason, an event for a refusal. */
#pragma once

#include "maps.h"

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);

	if (n)
		*n += 1;
}

static __noinline int report(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	struct event *e;

	count(reason);
	if (!target)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0; /* the counter has it */
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->target = *target;
	e->source = source;
	e->destination = destination;
	e->reason = reason;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}
