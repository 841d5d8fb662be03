/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Reports to user space: a counter for each reason, and an event for each refusal. */
#pragma once

#include "maps.h"

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);

	if (n)
		*n += 1;
}

/* tell counts and sends an event. caller: the program runs in the context of the
 * process that made the call, so that the event can name it. */
__noinline int tell(__u32 reason, struct pair *who, struct endpoint *target, bool caller)
{
	struct event *e;

	count(reason);
	if (!who || !target)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0; /* the ring buffer is full: the event is only counted */
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

/* report_packet is report for programs that run when a packet arrives or leaves,
 * where the current process has nothing to do with the packet. */
static __always_inline void report_packet(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	struct pair who = {.source = source, .destination = destination};

	tell(reason, &who, target, false);
}
