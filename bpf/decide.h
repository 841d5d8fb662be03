/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The decision on a pair of services takes at most four lookups, the most specific
 * first, and is made again where policy changes meanwhile. An exact destination outranks an exact source (Consul's precedence). */
#pragma once

#include "maps.h"

static __always_inline struct config *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline enum action action_of(__u32 source, __u32 destination)
{
	struct pair key = {.source = source, .destination = destination};
	enum action *action = bpf_map_lookup_elem(&intentions, &key);

	return action ? *action : ACTION_NONE;
}

/* action_of_any: a rule for every service never lets an ingress in, since whoever
 * reaches that one may use it. */
static __always_inline enum action action_of_any(__u32 destination, bool ingress)
{
	enum action action = action_of(ANY_SERVICE, destination);

	return ingress && action == ACTION_ALLOW ? ACTION_NONE : action;
}

static __always_inline enum reason look_up(const struct config *s, __u32 source, __u32 destination, bool ingress)
{
	enum action action = action_of(source, destination);

	if (!action)
		action = action_of_any(destination, ingress);
	if (!action)
		action = action_of(source, ANY_SERVICE);
	if (!action)
		action = action_of_any(ANY_SERVICE, ingress);
	if (action)
		return action == ACTION_ALLOW ? REASON_ALLOWED : REASON_INTENTION;
	return s->default_action == ACTION_ALLOW && !ingress ? REASON_ALLOWED : REASON_DEFAULT;
}

#define DECIDE_TRIES 4

/* decide_for says with ingress whether the source is one. The lookups are no
 * snapshot: between two of them, a change of policy may add the deny that the first
 * would have met and remove the one that the second would have met. The revision
 * grows between those two writes (denyFirst in policy/kernel), so a verdict to allow
 * counts only if it stayed the same meanwhile. */
__noinline enum reason decide_for(__u32 source, __u32 destination, bool ingress)
{
	struct config *s = get_settings();
	enum reason reason;
	__u64 revision;
	int i;

	if (!source)
		return REASON_IDENTITY;
	if (!s)
		return REASON_DEFAULT;
	for (i = 0; i < DECIDE_TRIES; i++) {
		revision = *(volatile __u64 *)&s->revision;
		reason = look_up(s, source, destination, ingress);
		if (reason != REASON_ALLOWED || revision == *(volatile __u64 *)&s->revision)
			return reason;
	}
	return REASON_DEFAULT;
}

/* decide is for every source but those of the daemon's tags: no program is an
 * ingress. */
static __always_inline enum reason decide(__u32 source, __u32 destination)
{
	return decide_for(source, destination, false);
}
