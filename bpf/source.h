/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Who is calling: the deepest enrolled cgroup above the current task. */
#pragma once

#include "maps.h"

/* find_source sets *service, 0 for nobody. It returns REASON_DEPTH where the
 * task is deeper than we look: an enrolled cgroup might be hidden below. */
static __noinline __u32 find_source(__u32 *service)
{
	__u32 zero = 0;
	struct config *s = bpf_map_lookup_elem(&settings, &zero);
	__u32 found = 0;
	int i;

	if (!s || !service)
		return REASON_IDENTITY;
	for (i = 0; i <= MAX_DEPTH; i++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(s->root_level + i);
		struct workload *w;

		if (!id)
			break;
		if (i == MAX_DEPTH)
			return REASON_DEPTH;
		w = bpf_map_lookup_elem(&workloads, &id);
		if (w)
			found = w->service;
	}
	*service = found;
	return REASON_ALLOWED;
}
