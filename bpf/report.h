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

/* emit sends an event. The current task is the caller's only where a hook runs
 * in its system call; elsewhere it is whoever was interrupted. */
static __always_inline void emit(struct event *from, bool current)
{
	struct event *e;

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return; /* the counter has it */
	*e = *from;
	e->time = bpf_ktime_get_boot_ns();
	if (current) {
		e->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(e->comm, sizeof(e->comm));
	}
	bpf_ringbuf_submit(e, 0);
}

/* report counts a refusal by a system call's hook, and tells of it. */
static __noinline int report(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	struct event e = {.source = source, .destination = destination, .reason = reason};

	count(reason);
	if (!target)
		return 0;
	e.target = *target;
	emit(&e, true);
	return 0;
}

/* report_packet does so for what arrived from outside. */
static __noinline int report_packet(__u32 reason, __u32 destination, struct endpoint *target)
{
	struct event e = {.destination = destination, .reason = reason};

	count(reason);
	if (!target)
		return 0;
	e.target = *target;
	emit(&e, false);
	return 0;
}
