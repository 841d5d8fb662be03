/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* cgroup/connect_unix refuses a workload the sockets of nscd and of
 * systemd-resolved's NSS module. These daemons would send the DNS query themselves,
 * so that the mesh couldn't tell for which workload. Without them, libc sends it. */
#pragma once

#include "kernel.h"
#include "listener.h"
#include "names.h"
#include "source.h"

#define PATH_SIZE 48

extern void *bpf_rdonly_cast(const void *from, __u32 type) __ksym;

/* is compares a path with a literal, including the 0 byte that ends it. */
#define is(path, text) same_text(path, text, sizeof(text))

static __always_inline bool same_text(const char *path, const char *text, int size)
{
	int i;

	for (i = 0; i < size; i++)
		if (path[i] != text[i])
			return false;
	return true;
}

static __always_inline bool looks_up(const char *path)
{
	return is(path, "/run/nscd/socket") || is(path, "/var/run/nscd/socket") || is(path, "/run/systemd/resolve/io.systemd.Resolve");
}

static __always_inline bool on_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct sockaddr_un *un = bpf_rdonly_cast(kern->uaddr, bpf_core_type_id_kernel(struct sockaddr_un));
	char path[PATH_SIZE];
	__u32 source = 0;

	__builtin_memcpy(path, un->sun_path, sizeof(path));
	if (!looks_up(path) || !daemon_lives() || find_source(bpf_get_netns_cookie(ctx), &source))
		return true;
	return !source || source == EXEMPT_SERVICE;
}
