/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about a packet, sent back through the device that it came in by:
 * RFC 792 and 1812 section 4.3 for IPv4, RFC 4443 for IPv6.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "count.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"
#include "wire.h"

/* Errors a second that one CPU sends, and how many of them at once. */
#define ICMP_RATE 1000
#define ICMP_BURST 100
#define ICMP_HOPS 64
#define NSEC_PER_SEC 1000000000ULL

enum icmp_error {
	ICMP_ERROR_TTL,
	ICMP_ERROR_TOO_BIG,
	ICMP_ERROR_HOST,
	ICMP_ERROR_ROUTE,
	ICMP_ERROR_PORT,
};

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* A token bucket for each CPU: RFC 1812, 4.3.2.8. */
static __always_inline bool icmp_budget_take(void)
{
	__u32 zero = 0;
	struct icmp_budget *budget = bpf_map_lookup_elem(&icmp_budget_map, &zero);
	__u64 now = bpf_ktime_get_coarse_ns(), fresh;

	if (!budget)
		return false;
	fresh = (now - budget->refilled_at) / (NSEC_PER_SEC / ICMP_RATE);
	if (fresh) {
		budget->tokens += fresh;
		budget->refilled_at = now;
	}
	if (budget->tokens > ICMP_BURST)
		budget->tokens = ICMP_BURST;
	if (!budget->tokens)
		return false;
	budget->tokens--;
	return true;
}

/* Whether an error about this packet may be sent at all: RFC 1122, 3.2.2. */
static __always_inline bool icmp_allowed(struct __sk_buff *ctx, const struct packet *p)
{
	__u8 *type = data_of(ctx) + p->l4_off;

	if (p->later_fragment || is_multicast(p) || !is_routable_source(p) ||
	    p->l4_off > HEADERS_MAX)
		return false;
	if (p->l4_proto == IPPROTO_ICMP && p->version == 4) {
		if ((void *)(type + 1) > data_end_of(ctx))
			return false;
		return *type == ICMP4_ECHO || *type == ICMP4_ECHO_REPLY;
	}
	if (p->l4_proto == IPPROTO_ICMPV6) {
		if ((void *)(type + 1) > data_end_of(ctx))
			return false;
		return *type >= ICMP6_FIRST_INFORMATIONAL;
	}
	return true;
}

static __always_inline void icmp4_type(struct icmp_header *icmp, enum icmp_error error, __u32 mtu)
{
	icmp->type = error == ICMP_ERROR_TTL ? ICMP4_TIME_EXCEEDED : ICMP4_UNREACHABLE;
	if (error == ICMP_ERROR_HOST)
		icmp->code = ICMP4_CODE_HOST;
	if (error == ICMP_ERROR_PORT)
		icmp->code = ICMP4_CODE_PORT;
	if (error == ICMP_ERROR_TOO_BIG) {
		icmp->code = ICMP4_CODE_FRAG_NEEDED;
		icmp->rest = bpf_htonl(mtu);
	}
}

static __always_inline void icmp6_type(struct icmp_header *icmp, enum icmp_error error, __u32 mtu)
{
	icmp->type = ICMP6_UNREACHABLE;
	if (error == ICMP_ERROR_TTL)
		icmp->type = ICMP6_TIME_EXCEEDED;
	if (error == ICMP_ERROR_HOST)
		icmp->code = ICMP6_CODE_ADDRESS;
	if (error == ICMP_ERROR_PORT)
		icmp->code = ICMP6_CODE_PORT;
	if (error == ICMP_ERROR_TOO_BIG) {
		icmp->type = ICMP6_TOO_BIG;
		icmp->rest = bpf_htonl(mtu);
	}
}

static __always_inline int icmp4_write(struct __sk_buff *ctx, const struct packet *p,
				       const struct icmp_quote *quote, __u32 quoted,
				       __u64 error_mtu)
{
	struct {
		struct iphdr ip;
		struct icmp_header icmp;
	} h = {};

	h.ip.version = 4;
	h.ip.ihl = 5;
	h.ip.tot_len = bpf_htons(sizeof(h) + quoted);
	h.ip.ttl = ICMP_HOPS;
	h.ip.protocol = IPPROTO_ICMP;
	h.ip.saddr = config.router_ip4.w[3];
	h.ip.daddr = p->src.w[3];
	h.ip.check = csum_fold(bpf_csum_diff(NULL, 0, (void *)&h.ip, sizeof(h.ip), 0));
	icmp4_type(&h.icmp, error_mtu >> 32, (__u32)error_mtu);
	h.icmp.checksum =
		csum_fold(bpf_csum_diff(NULL, 0, (void *)&h.icmp, sizeof(h.icmp),
					bpf_csum_diff(NULL, 0, (void *)quote, sizeof(*quote), 0)));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &h, sizeof(h), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int icmp6_write(struct __sk_buff *ctx, const struct packet *p,
				       const struct icmp_quote *quote, __u32 quoted,
				       __u64 error_mtu)
{
	struct {
		struct ipv6hdr ip;
		struct icmp_header icmp;
	} h = {};
	struct ipv6_pseudo pseudo = {};
	__u32 sum;
	int i;

	h.ip.version = 6;
	h.ip.payload_len = bpf_htons(sizeof(h.icmp) + quoted);
	h.ip.nexthdr = IPPROTO_ICMPV6;
	h.ip.hop_limit = ICMP_HOPS;
	/* Word by word: a cast would lose the volatile, and the compiler reads zeros. */
	for (i = 0; i < 4; i++)
		h.ip.saddr.in6_u.u6_addr32[i] = config.router_ip6.w[i];
	__builtin_memcpy(&h.ip.daddr, &p->src, sizeof(h.ip.daddr));
	icmp6_type(&h.icmp, error_mtu >> 32, (__u32)error_mtu);
	pseudo.src = h.ip.saddr;
	pseudo.dst = h.ip.daddr;
	pseudo.len = bpf_htonl(sizeof(h.icmp) + quoted);
	pseudo.proto = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)quote, sizeof(*quote), sum);
	sum = bpf_csum_diff(NULL, 0, (void *)&h.icmp, sizeof(h.icmp), sum);
	h.icmp.checksum = csum_fold(sum);
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &h, sizeof(h), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Turn the packet into an ICMP error about itself. error_mtu: enum icmp_error in
 * the upper half, the link's MTU in the lower. Returns 0 when ctx can be sent
 * back; otherwise ctx is fit for dropping only. Not inlined: it is rare, large,
 * and four programs reach it from several places.
 */
__noinline int icmp_from_packet(struct __sk_buff *ctx, struct packet *p, __u64 error_mtu)
{
	struct scratch *s = scratch_get();
	struct icmp_quote *quote;
	__u8 macs[2 * ETH_ALEN], swapped[2 * ETH_ALEN];
	__u32 quoted, headers;

	if (!p || !s || !icmp_allowed(ctx, p) || !icmp_budget_take())
		return -1;
	quote = &s->quote;
	__builtin_memset(quote, 0, sizeof(*quote));
	quoted = p->l3_len;
	if (quoted > sizeof(*quote))
		quoted = sizeof(*quote);
	if (!quoted)
		return -1;
	if (bpf_skb_load_bytes(ctx, ETH_HLEN, quote, quoted) ||
	    bpf_skb_load_bytes(ctx, 0, macs, sizeof(macs)))
		return -1;
	if (macs[0] & 1) /* sent to many at the link layer: RFC 1122, 3.2.2 */
		return -1;
	headers = p->version == 4 ? sizeof(struct iphdr) + sizeof(struct icmp_header) :
				    sizeof(struct ipv6hdr) + sizeof(struct icmp_header);
	if (bpf_skb_change_tail(ctx, ETH_HLEN + quoted, 0) ||
	    bpf_skb_adjust_room(ctx, headers, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	__builtin_memcpy(swapped, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, macs, ETH_ALEN);
	if (bpf_skb_store_bytes(ctx, 0, swapped, sizeof(swapped), 0))
		return -1;
	if (p->version == 4)
		return icmp4_write(ctx, p, quote, quoted, error_mtu);
	return icmp6_write(ctx, p, quote, quoted, error_mtu);
}

/* Drop the packet for reason and, where the rules allow it, tell the sender why. */
static __always_inline int drop_and_tell(struct __sk_buff *ctx, struct packet *p, enum hook hook,
					 enum reason reason, enum icmp_error error, __u32 mtu)
{
	int verdict = drop(ctx, hook, reason);

	if (icmp_from_packet(ctx, p, (__u64)error << 32 | mtu))
		return verdict;
	return bpf_redirect(ctx->ifindex, 0);
}
