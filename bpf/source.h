/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Identifies the caller: by the deepest enrolled cgroup among those that contain
 * the current task, else by its network namespace, else by its user. */
#pragma once

#include "maps.h"

/* of_cgroups sets *service to that of the deepest enrolled cgroup, and leaves it
 * unchanged where there is none. It returns REASON_DEPTH for a task that is deeper
 * than MAX_DEPTH, since an enrolled cgroup could be below that. */
__noinline __u32 of_cgroups(__u32 *service)
{
	__u32 zero = 0;
	struct config *s = bpf_map_lookup_elem(&settings, &zero);
	int i;

	if (!s || !service)
		return REASON_IDENTITY;
	for (i = 0; i <= MAX_DEPTH + 1; i++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(s->root_level + i);
		struct workload *w;

		if (!id)
			break;
		if (i > MAX_DEPTH)
			return REASON_DEPTH;
		w = bpf_map_lookup_elem(&workloads, &id);
		if (w && (w->service != EXEMPT_SERVICE || !*service)) /* a cgroup inside a workload's is never exempt */
			*service = w->service;
	}
	return REASON_ALLOWED;
}

/* find_source sets *service to the caller's service: 0 where it has none,
 * EXEMPT_SERVICE where it is exempt. netns is the cookie of the caller's network
 * namespace. */
__noinline __u32 find_source(__u64 netns, __u32 *service)
{
	__u32 found = 0, uid = (__u32)bpf_get_current_uid_gid();
	__u32 reason = of_cgroups(&found);
	struct workload *w;

	if (reason || !service)
		return reason ? reason : REASON_IDENTITY;
	w = found && found != EXEMPT_SERVICE ? 0 : bpf_map_lookup_elem(&namespaces, &netns);
	if (w)
		found = w->service;
	w = found && found != EXEMPT_SERVICE ? 0 : bpf_map_lookup_elem(&users, &uid);
	if (w && (w->service != EXEMPT_SERVICE || !found))
		found = w->service;
	*service = found;
	return REASON_ALLOWED;
}

static __always_inline bool is_daemon(const struct config *s)
{
	return bpf_get_current_cgroup_id() == s->daemon_cgroup;
}

/* remember_creator writes the service that creates a TCP socket into the socket
 * storage: no other service may connect with that socket. The daemon's sockets of
 * every type are marked, too. Sockets of other processes get no storage. */
static __always_inline void remember_creator(struct bpf_sock *sk)
{
	struct config *s = bpf_map_lookup_elem(&settings, &(__u32){0});
	__u32 creator = DAEMON_SERVICE;
	struct sock_state *st;

	if (!s || (sk->family != AF_INET && sk->family != AF_INET6))
		return;
	if (!is_daemon(s) && (sk->type != SOCK_STREAM || find_source(bpf_get_netns_cookie(sk), &creator) || !creator ||
			      creator == EXEMPT_SERVICE))
		return;
	st = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (st)
		st->creator = creator;
}
