/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The decision on a pair of services takes at most four lookups, the most specific
 * first. An exact destination outranks an exact source (Consul's precedence). */
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

/* decide_for says with ingress whether the source is one. */
__noinline enum reason decide_for(__u32 source, __u32 destination, bool ingress)
{
	struct config *s = get_settings();
	enum action action;

	if (!source)
		return REASON_IDENTITY;
	action = action_of(source, destination);
	if (!action)
		action = action_of_any(destination, ingress);
	if (!action)
		action = action_of(source, ANY_SERVICE);
	if (!action)
		action = action_of_any(ANY_SERVICE, ingress);
	if (action)
		return action == ACTION_ALLOW ? REASON_ALLOWED : REASON_INTENTION;
	return s && s->default_action == ACTION_ALLOW && !ingress ? REASON_ALLOWED : REASON_DEFAULT;
}

/* decide is for every source but those of the daemon's tags: no program is an
 * ingress. */
static __always_inline enum reason decide(__u32 source, __u32 destination)
{
	return decide_for(source, destination, false);
}
