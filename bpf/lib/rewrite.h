/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changes that a router makes to a packet that it passes on. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "parse.h"

static __always_inline void set_macs(struct ethhdr *eth, const volatile __u8 *dst,
				     const volatile __u8 *src)
{
	int i;

#pragma unroll
	for (i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = dst[i];
		eth->h_source[i] = src[i];
	}
}

/* Take one from the hop count. The caller has seen that it is above one. */
static __always_inline int decrement_ttl(struct __sk_buff *ctx, const struct packet *p)
{
	void *l3 = data_of(ctx) + ETH_HLEN;

	if (p->version == 4) {
		struct iphdr *ip = l3;
		__u32 sum;

		if ((void *)(ip + 1) > data_end_of(ctx))
			return -1;
		/* RFC 1624: the TTL is the high byte of its word. */
		sum = ip->check + bpf_htons(0x0100);
		ip->check = sum + (sum >= 0xffff);
		ip->ttl--;
	} else {
		struct ipv6hdr *ip = l3;
		__u32 old_word, new_word;

		if ((void *)(ip + 1) > data_end_of(ctx))
			return -1;
		old_word = (__u16)~bpf_htons(ip->nexthdr << 8 | ip->hop_limit);
		ip->hop_limit--;
		new_word = bpf_htons(ip->nexthdr << 8 | ip->hop_limit);
		/* No checksum in the header to make up for it in a sum over the packet. */
		bpf_csum_update(ctx, old_word + new_word);
	}
	return 0;
}

/* The router's part for a packet that stays in its frame. */
static __always_inline int route_in_place(struct __sk_buff *ctx, const struct packet *p,
					  const volatile __u8 *dst_mac,
					  const volatile __u8 *src_mac)
{
	struct ethhdr *eth;

	if (decrement_ttl(ctx, p))
		return -1;
	eth = data_of(ctx);
	if ((void *)(eth + 1) > data_end_of(ctx))
		return -1;
	set_macs(eth, dst_mac, src_mac);
	return 0;
}
