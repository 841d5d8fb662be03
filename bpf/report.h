/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Reports to user space: a counter for each reason, and an event for each refusal. */
#pragma once

#include "decide.h"

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);

	if (n)
		*n += 1;
}

/* count_lost counts what the daemon isn't told of. */
static __always_inline void count_lost(__u32 reason) { count(REASON_COUNT + reason); }

/* is_own returns whether the number is one of the daemon's own callers: the
 * self-probe, or the health checks. What they meet concerns no workload. */
static __always_inline bool is_own(__u32 service)
{
	struct config *s = get_settings();
	__u32 last = s ? bpf_ntohl(~s->mask4) : 0;

	return service > last - RESERVED_COUNT && service <= last;
}

/* notify sends an event, and returns false where the ring buffer is full. caller:
 * the program runs in the context of the process that made the call, so that the
 * event can name it. */
__noinline int notify(__u32 reason, struct pair *who, struct endpoint *target, struct endpoint *client, bool caller)
{
	struct event *e;

	if (!who)
		return true;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return false;
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	if (target)
		e->target = *target;
	if (client)
		e->client = *client;
	e->source = who->source;
	e->destination = who->destination;
	e->reason = reason;
	if (caller) {
		e->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(e->comm, sizeof(e->comm));
	}
	bpf_ringbuf_submit(e, 0);
	return true;
}

/* tell counts and sends an event. */
static __always_inline void tell(__u32 reason, struct pair who, struct endpoint *target, struct endpoint *client, bool caller)
{
	if (is_own(who.source))
		return;
	count(reason);
	if (!notify(reason, &who, target, client, caller))
		count_lost(reason);
}

static __always_inline void report(__u32 reason, __u32 source, __u32 destination, struct endpoint *target)
{
	tell(reason, (struct pair){.source = source, .destination = destination}, target, 0, true);
}

/* report_packet is report for programs that run when a packet arrives or leaves,
 * where the current process has nothing to do with the packet. client is the sender
 * of one that arrives, or 0. */
static __always_inline void report_packet(__u32 reason, __u32 source, __u32 destination, struct endpoint *target,
					  struct endpoint *client)
{
	tell(reason, (struct pair){.source = source, .destination = destination}, target, client, false);
}
