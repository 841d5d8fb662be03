/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Limits how many entries of the map of origins one source has. */
#pragma once

#include "maps.h"

/* used returns how many captured connections of that source the daemon has not
 * accepted yet; 0: of all sources. */
static __always_inline __u64 used(__u32 source)
{
	__u64 *n = bpf_map_lookup_elem(&usage, &source);

	return n ? *n : 0;
}

static __always_inline void use(__u32 source, __s64 by)
{
	__u64 *n = bpf_map_lookup_elem(&usage, &source);
	__u64 zero = 0;

	if (!n) {
		bpf_map_update_elem(&usage, &source, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&usage, &source);
	}
	if (n)
		__sync_fetch_and_add(n, by);
}

/* room keeps a workload whose connections aren't accepted from using up the
 * entries of others. */
static __always_inline bool room(const struct config *s, __u32 source)
{
	return used(source) < s->quota && used(0) < s->capacity;
}
