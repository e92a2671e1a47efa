/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pod's link has one neighbour, its gateway. ARP requests and neighbour
 * solicitations are answered here with the gateway's address, whatever they ask
 * for, after the pod proved to be who it says it is.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "count.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"
#include "wire.h"

/* RFC 4861: a solicitation or advertisement with one link-layer option. */
struct nd_packet {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct icmp_header icmp;
	union addr target;
	__u8 option;
	__u8 option_len; /* in units of 8 bytes */
	__u8 option_mac[ETH_ALEN];
} __attribute__((packed));

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

/* Who sent it: the endpoint on the device it came in by that owns the source. */
static __always_inline enum reason check_source(struct __sk_buff *ctx, const union addr *src,
						struct endpoint **out)
{
	struct endpoint *ep = table_lookup(&endpoint_map, src);
	struct ethhdr *eth = data_of(ctx);

	if (!ep || ep->ifindex != ctx->ifindex)
		return DROP_INVALID_SOURCE;
	if ((void *)(eth + 1) > data_end_of(ctx))
		return DROP_INVALID_PACKET;
	if (!same_mac(eth->h_source, ep->mac))
		return DROP_INVALID_MAC;
	*out = ep;
	return REASON_FORWARDED;
}

static __always_inline int answer(struct __sk_buff *ctx)
{
	count(ctx, HOOK_FROM_POD, REASON_ANSWERED);
	return bpf_redirect(ctx->ifindex, 0);
}

static __noinline int handle_arp(struct __sk_buff *ctx)
{
	struct arp_packet *arp = data_of(ctx);
	union addr sender, target;
	struct endpoint *ep = NULL;
	enum reason reason;
	__be32 ip;

	if ((void *)(arp + 1) > data_end_of(ctx) || arp->hw_type != bpf_htons(ARP_ETHERNET) ||
	    arp->proto != bpf_htons(ETH_P_IP) || arp->hw_len != ETH_ALEN || arp->proto_len != 4)
		return drop(ctx, HOOK_FROM_POD, DROP_INVALID_ARP);
	__builtin_memcpy(&ip, arp->target_ip, sizeof(ip));
	addr_from_ip4(&target, ip);
	__builtin_memcpy(&ip, arp->sender_ip, sizeof(ip));
	/* A probe has no sender yet: RFC 5227. It may ask for its own address only. */
	addr_from_ip4(&sender, ip ?: target.w[3]);
	reason = check_source(ctx, &sender, &ep);
	if (reason)
		return drop(ctx, HOOK_FROM_POD, reason);
	arp = data_of(ctx);
	if ((void *)(arp + 1) > data_end_of(ctx) || !ep || !same_mac(arp->sender_mac, ep->mac))
		return drop(ctx, HOOK_FROM_POD, DROP_INVALID_ARP);
	if (target.w[3] == sender.w[3] || arp->op != bpf_htons(ARP_REQUEST)) {
		/* Nobody else is on the link to be told. */
		count(ctx, HOOK_FROM_POD, REASON_IGNORED);
		return TC_ACT_SHOT;
	}
	arp->op = bpf_htons(ARP_REPLY);
	set_macs(&arp->eth, ep->mac, config.router_mac);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	__builtin_memcpy(arp->sender_mac, arp->eth.h_source, ETH_ALEN);
	__builtin_memcpy(arp->target_ip, &sender.w[3], 4);
	__builtin_memcpy(arp->sender_ip, &target.w[3], 4);
	return answer(ctx);
}

static __always_inline bool is_neighbour_solicitation(struct __sk_buff *ctx, const struct packet *p)
{
	struct icmp_header *icmp = data_of(ctx) + ETH_HLEN + sizeof(struct ipv6hdr);

	if (p->version != 6 || p->l4_proto != IPPROTO_ICMPV6 || p->later_fragment ||
	    p->l4_off != ETH_HLEN + sizeof(struct ipv6hdr) || (void *)(icmp + 1) > data_end_of(ctx))
		return false;
	return icmp->type == ICMP6_NEIGHBOUR_SOLICITATION;
}

/* The source is the pod's own already, or unspecified. */
static __noinline int handle_solicitation(struct __sk_buff *ctx, const struct packet *p,
					  const struct endpoint *ep)
{
	struct nd_packet *nd = data_of(ctx);
	struct ipv6_pseudo pseudo = {};
	__u32 sum;

	/* RFC 4861, 7.1.1. One without its sender's address cannot become an answer. */
	if ((void *)(nd + 1) > data_end_of(ctx) || nd->ip.hop_limit != ND_HOP_LIMIT ||
	    nd->icmp.code || nd->target.b[0] == 0xff || nd->option != ND_OPTION_SOURCE_MAC ||
	    nd->option_len != 1 || !same_mac(nd->option_mac, ep->mac) ||
	    nd->ip.payload_len != bpf_htons(sizeof(*nd) - ETH_HLEN - sizeof(nd->ip)))
		return drop(ctx, HOOK_FROM_POD, DROP_INVALID_ND);
	set_macs(&nd->eth, ep->mac, config.router_mac);
	__builtin_memcpy(&nd->ip.saddr, &nd->target, sizeof(nd->ip.saddr));
	__builtin_memcpy(&nd->ip.daddr, &p->src, sizeof(nd->ip.daddr));
	nd->icmp.type = ICMP6_NEIGHBOUR_ADVERTISEMENT;
	nd->icmp.checksum = 0;
	nd->icmp.rest = bpf_htonl(ND_SOLICITED_OVERRIDE);
	nd->option = ND_OPTION_TARGET_MAC;
	__builtin_memcpy(nd->option_mac, nd->eth.h_source, ETH_ALEN);

	__builtin_memcpy(&pseudo.src, &nd->ip.saddr, sizeof(pseudo.src));
	__builtin_memcpy(&pseudo.dst, &nd->ip.daddr, sizeof(pseudo.dst));
	pseudo.len = bpf_htonl(sizeof(*nd) - ETH_HLEN - sizeof(nd->ip));
	pseudo.proto = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&nd->icmp, sizeof(*nd) - ETH_HLEN - sizeof(nd->ip),
			    sum);
	nd->icmp.checksum = csum_fold(sum);
	return answer(ctx);
}
