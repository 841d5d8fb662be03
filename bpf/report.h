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

/* tell counts, and says what happened. caller: in the context of the process
 * that asked for it, which is named. */
__noinline int tell(__u32 reason, struct pair *who, struct endpoint *target, bool caller)
{
	struct event *e;

	count(reason);
	if (!who || !target)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0; /* the counter has it */
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->target = *target;
	e->source = who->source;
	e->destination = who->destination;
	e->reason = reason;
	if (caller) {
		e->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(e->comm, sizeof(e->comm));
	}
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline void report(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	struct pair who = {.source = source, .destination = destination};

	tell(reason, &who, target, true);
}

/* report_packet is report for what happens when a packet arrives. */
static __always_inline void report_packet(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	struct pair who = {.source = source, .destination = destination};

	tell(reason, &who, target, false);
}
