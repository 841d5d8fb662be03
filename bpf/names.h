/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Queries for the mesh's names, found in packets: while the daemon is away,
 * and to the host's own resolvers always, they must not leave the host, where
 * somebody else's wildcard might answer them. */
#pragma once

#include "address.h"
#include "resolve.h"

#define NAME_SIZE 256
#define DNS_HEADER 12 /* RFC 1035, section 4.1.1 */

struct scratch {
	__u8 query[NAME_SIZE];
	struct name_key key;
	__u32 length; /* of the name in query, with its last byte, which is 0 */
};

/* One CPU's: too large for the stack. Pinned like all, though nothing is kept. */
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

/* measure looks for the end of the name, a byte at a time: lengths of labels
 * are below 64, so the first 0 is that. */
static long measure(__u32 i, struct scratch **at)
{
	struct scratch *b = *at;

	if (b->query[i & (NAME_SIZE - 1)])
		return 0;
	b->length = i + 1;
	return 1;
}

/* turn writes the name into the key, a byte at a time: back to front, in lower
 * case. The length of a label is no letter. */
static long turn(__u32 i, struct scratch **at)
{
	struct scratch *b = *at;
	__u8 c = b->query[(b->length - 1 - i) & (NAME_SIZE - 1)];

	b->key.wire[i & (NAME_SIZE - 1)] = c >= 'A' && c <= 'Z' ? c + 32 : c;
	return 0;
}

/* asks_for_mesh says whether the DNS message at that offset of the packet asks
 * for one of the mesh's names. */
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
	bpf_loop(b->length, turn, &b, 0);
	b->key.prefixlen = b->length * 8;
	exact = bpf_map_lookup_elem(&names, &b->key);
	return exact && (!*exact || *exact == b->length);
}
