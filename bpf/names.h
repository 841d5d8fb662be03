/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Finds DNS queries for mesh names in outgoing packets. Such a query must not
 * leave the host, where another server's wildcard record might answer it: while
 * the daemon is down, to any server; while it runs, to the resolvers of the host. */
#pragma once

#include "address.h"
#include "resolve.h"

#define DNS_HEADER 12 /* RFC 1035, section 4.1.1 */

struct scratch {
	__u8 query[NAME_SIZE];
	struct name_key key;
	__u32 length; /* of the name in query, with the 0 byte that ends it */
};

/* scratch is per CPU, since a program's stack of 512 bytes is too small for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} scratch SEC(".maps");

static __always_inline bool daemon_lives(void)
{
	__u32 *lives = bpf_map_lookup_elem(&alive, &(__u32){0});

	return lives && *lives;
}

/* measure is called for each byte by bpf_loop and stops at the first 0, which
 * ends the name. */
static long measure(__u32 i, struct scratch **at)
{
	struct scratch *b = *at;

	if (b->query[i & (NAME_SIZE - 1)])
		return 0;
	b->length = i + 1;
	return 1;
}

/* reverse is called for each byte by bpf_loop and writes the name into the key,
 * reversed and in lower case. A label's length is at most 63 (RFC 1035), below
 * 'A', so it stays as it is. */
static long reverse(__u32 i, struct scratch **at)
{
	struct scratch *b = *at;
	__u8 c = b->query[(b->length - 1 - i) & (NAME_SIZE - 1)];

	b->key.wire[i & (NAME_SIZE - 1)] = c >= 'A' && c <= 'Z' ? c + 32 : c;
	return 0;
}

/* asks_for_mesh returns whether the DNS message at that offset of the packet
 * asks for a mesh name. */
__noinline int asks_for_mesh(struct __sk_buff *skb, __u32 offset)
{
	struct scratch *b = bpf_map_lookup_elem(&scratch, &(__u32){0});
	__u32 size = skb->len - offset - DNS_HEADER;
	__u32 *exact;

	if (!b || offset > 256 || skb->len < offset + DNS_HEADER + 2)
		return 0;
	if (size > NAME_SIZE)
		size = NAME_SIZE;
	asm volatile("" : "+r"(size));
	if (!size || size > NAME_SIZE || bpf_skb_load_bytes(skb, offset + DNS_HEADER, b->query, size))
		return 0;
	b->length = 0;
	bpf_loop(size, measure, &b, 0);
	if (b->length < 2)
		return 0;
	bpf_loop(b->length, reverse, &b, 0);
	b->key.prefixlen = b->length * 8;
	exact = bpf_map_lookup_elem(&names, &b->key);
	return exact && (!*exact || *exact == b->length);
}
