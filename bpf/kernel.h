/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The kernel types whose fields the programs read. Only the fields in use are
 * declared: CO-RE relocation sets their offsets to those of the running kernel
 * when the programs are loaded. */
#pragma once

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;
struct kernfs_node {
	unsigned long long id;
};
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};
struct net {
	__u64 net_cookie;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	possible_net_t skc_net;
	unsigned short skc_family;
	unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};
typedef struct {
	__u32 val;
} kuid_t;
struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	kuid_t sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
	int sk_err;
};
struct sk_buff {
	struct sock *sk;
};
struct net_device {
	int ifindex;
};
struct nf_hook_state {
	struct net_device *in;
	struct net_device *out;
};
struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};
struct inet_sock {
	struct sock sk;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 write_seq;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
};
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};
struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};
struct bpf_sock_addr_kern {
	void *uaddr;
};
#pragma clang attribute pop
