/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From bytes to struct packet, by cursor. Each parse_* checks its bounds once,
 * and returns REASON_FORWARDED when the header is sound or the reason to drop.
 * Nothing is believed that a header says about lengths before it was compared
 * with the length of the packet.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "scratch.h"
#include "types.h"
#include "wire.h"

/* Headers must lie within this many bytes of the start of the frame. */
#define HEADERS_MAX 256
#define IPV6_EXT_HEADERS_MAX 6
#define IP_MF 0x2000
#define IP_DF 0x4000
#define IP_OFFSET 0x1fff
#define IP6_OFFSET 0xfff8
#define IP6_MF 0x0001
#define SCTP_HEADER_LEN 12
#define TCP_FLAGS_OFFSET 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define GSO_BY_FRAGS 0xffff

static __always_inline void *data_of(const struct __sk_buff *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *data_end_of(const struct __sk_buff *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline void addr_from_ip4(union addr *addr, __be32 ip)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = bpf_htonl(0xffff);
	addr->w[3] = ip;
}

static __always_inline void addr_from_ip6(union addr *addr, const struct in6_addr *ip)
{
	addr->w[0] = ip->in6_u.u6_addr32[0];
	addr->w[1] = ip->in6_u.u6_addr32[1];
	addr->w[2] = ip->in6_u.u6_addr32[2];
	addr->w[3] = ip->in6_u.u6_addr32[3];
}

/* ::ffff:0:0/96, which is how tables hold IPv4. It never appears on a wire. */
static __always_inline bool is_mapped_ip4(const union addr *addr)
{
	return !(addr->w[0] | addr->w[1]) && addr->w[2] == bpf_htonl(0xffff);
}

/*
 * Whether a TCP segment's headers are directly readable already. What a pod's
 * own stack sends has its payload elsewhere and its headers whole.
 */
static __always_inline bool has_direct_headers(struct __sk_buff *ctx)
{
	struct iphdr *ip4 = data_of(ctx) + ETH_HLEN;
	struct ipv6hdr *ip6 = data_of(ctx) + ETH_HLEN;
	void *end = data_end_of(ctx), *l4;
	struct tcphdr *tcp;
	__u8 proto;

	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) > end)
			return false;
		proto = ip4->protocol;
		l4 = (void *)ip4 + ip4->ihl * 4;
	} else {
		if ((void *)(ip6 + 1) > end)
			return false;
		proto = ip6->nexthdr;
		l4 = ip6 + 1;
	}
	tcp = l4;
	if (proto != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return false;
	return l4 + tcp->doff * 4 <= end;
}

/*
 * Bring the headers of a scattered packet into the directly readable part. The
 * kernel copies the head of a packet that its sender still holds for that: not
 * where nothing is missing.
 */
static __always_inline void linearise_headers(struct __sk_buff *ctx)
{
	__u32 direct = ctx->data_end - ctx->data;

	if (direct < HEADERS_MAX && direct < ctx->len && !has_direct_headers(ctx))
		bpf_skb_pull_data(ctx, ctx->len < HEADERS_MAX ? ctx->len : HEADERS_MAX);
}

static __always_inline bool is_echo_request(__u8 proto, __u8 type)
{
	return type == (proto == IPPROTO_ICMP ? ICMP4_ECHO : ICMP6_ECHO);
}

static __always_inline bool is_echo_reply(__u8 proto, __u8 type)
{
	return type == (proto == IPPROTO_ICMP ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY);
}

/*
 * The smallest sound header of each protocol, so that who reads ports or types
 * later need not ask. Protocols that Placid does not know pass as they are.
 */
static __always_inline enum reason parse_l4(struct __sk_buff *ctx, struct packet *p)
{
	__u32 l4_space = p->l3_len + ETH_HLEN - p->l4_off;
	void *l4 = data_of(ctx) + p->l4_off;
	void *end = data_end_of(ctx);
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;
	struct icmp_header *icmp = l4;

	switch (p->l4_proto) {
	case IPPROTO_TCP:
		if (l4 + sizeof(*tcp) > end)
			return DROP_INVALID_L4;
		p->l4_len = tcp->doff * 4;
		if (p->l4_len < sizeof(*tcp))
			return DROP_INVALID_L4;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
		break;
	case IPPROTO_UDP:
		if (l4 + sizeof(*udp) > end)
			return DROP_INVALID_L4;
		p->l4_len = sizeof(*udp);
		p->sport = udp->source;
		p->dport = udp->dest;
		/* A first fragment and a segment train speak of more than is here. */
		if (bpf_ntohs(udp->len) < sizeof(*udp) && !ctx->gso_size)
			return DROP_INVALID_L4;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (l4 + sizeof(*icmp) > end)
			return DROP_INVALID_L4;
		p->l4_len = sizeof(*icmp);
		p->icmp_type = icmp->type;
		if (is_echo_request(p->l4_proto, icmp->type))
			p->sport = *(__be16 *)&icmp->rest;
		else if (is_echo_reply(p->l4_proto, icmp->type))
			p->dport = *(__be16 *)&icmp->rest;
		break;
	case IPPROTO_SCTP:
		if (l4 + SCTP_HEADER_LEN > end)
			return DROP_INVALID_L4;
		p->l4_len = SCTP_HEADER_LEN;
		p->sport = udp->source; /* where UDP has them */
		p->dport = udp->dest;
		break;
	default:
		return REASON_FORWARDED;
	}
	if (p->l4_len > l4_space || l4 + p->l4_len > end)
		return DROP_INVALID_L4;
	return REASON_FORWARDED;
}

static __always_inline enum reason parse_ipv4(struct __sk_buff *ctx, struct packet *p)
{
	struct iphdr *ip = data_of(ctx) + ETH_HLEN;
	__u32 header_len, fragment;

	if ((void *)(ip + 1) > data_end_of(ctx))
		return DROP_INVALID_PACKET;
	header_len = ip->ihl * 4;
	p->l3_len = bpf_ntohs(ip->tot_len);
	if (!p->l3_len && ctx->gso_size) /* more than 64 KiB in one train */
		p->l3_len = ctx->len - ETH_HLEN;
	if (ip->version != 4 || header_len < sizeof(*ip) || p->l3_len < header_len ||
	    p->l3_len + ETH_HLEN > ctx->len)
		return DROP_INVALID_PACKET;

	addr_from_ip4(&p->src, ip->saddr);
	addr_from_ip4(&p->dst, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	p->version = 4;
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	p->l4_proto = ip->protocol;
	p->l4_off = ETH_HLEN + header_len;
	p->dont_fragment = fragment & IP_DF;
	p->later_fragment = fragment & IP_OFFSET;
	p->fragment = fragment & (IP_OFFSET | IP_MF);
	p->fragment_id = ip->id;
	if (p->later_fragment)
		/* Offset 8 would overwrite the TCP flags of the first: RFC 1858, 3. */
		return p->l4_proto == IPPROTO_TCP && (fragment & IP_OFFSET) == 1 ?
			       DROP_INVALID_PACKET :
			       REASON_FORWARDED;
	return parse_l4(ctx, p);
}

/* One extension header: moves *offset past it and gives the next protocol. */
static __always_inline enum reason parse_ipv6_ext(struct __sk_buff *ctx, struct packet *p,
						  __u32 *offset)
{
	struct {
		__u8 next;
		__u8 len;
		__be16 rest; /* routing type in the first byte, or the fragment offset */
		__be32 id;
	} *ext = data_of(ctx) + *offset;
	__u32 len;

	if ((void *)(ext + 1) > data_end_of(ctx))
		return DROP_INVALID_EXT_HEADER;
	switch (p->l4_proto) {
	case IPPROTO_FRAGMENT:
		len = sizeof(*ext);
		p->later_fragment = bpf_ntohs(ext->rest) & IP6_OFFSET;
		p->fragment = bpf_ntohs(ext->rest) & (IP6_OFFSET | IP6_MF);
		p->fragment_id = ext->id;
		break;
	case IPPROTO_AH:
		len = (ext->len + 2) * 4;
		break;
	case IPPROTO_ROUTING:
		if (!(bpf_ntohs(ext->rest) >> 8)) /* type 0: RFC 5095 */
			return DROP_INVALID_EXT_HEADER;
		len = (ext->len + 1) * 8;
		break;
	default:
		len = (ext->len + 1) * 8;
	}
	p->l4_proto = ext->next;
	*offset += len;
	if (*offset > HEADERS_MAX || *offset > p->l3_len + ETH_HLEN)
		return DROP_INVALID_EXT_HEADER;
	return REASON_FORWARDED;
}

static __always_inline bool is_ipv6_ext(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_AH || proto == IPPROTO_DSTOPTS;
}

static __always_inline enum reason parse_ipv6(struct __sk_buff *ctx, struct packet *p)
{
	struct ipv6hdr *ip = data_of(ctx) + ETH_HLEN;
	__u32 offset = ETH_HLEN + sizeof(*ip);
	enum reason reason;
	int i;

	if ((void *)(ip + 1) > data_end_of(ctx))
		return DROP_INVALID_PACKET;
	p->l3_len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (!ip->payload_len && ctx->gso_size)
		p->l3_len = ctx->len - ETH_HLEN;
	if (ip->version != 6 || p->l3_len + ETH_HLEN > ctx->len)
		return DROP_INVALID_PACKET;

	addr_from_ip6(&p->src, &ip->saddr);
	addr_from_ip6(&p->dst, &ip->daddr);
	if (is_mapped_ip4(&p->src) || is_mapped_ip4(&p->dst))
		return DROP_INVALID_PACKET;
	p->version = 6;
	p->ttl = ip->hop_limit;
	p->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	p->l4_proto = ip->nexthdr;
	p->dont_fragment = true;
	for (i = 0; i < IPV6_EXT_HEADERS_MAX && is_ipv6_ext(p->l4_proto); i++) {
		if (p->l4_proto == IPPROTO_HOPOPTS && i) /* only first: RFC 8200, 4.1 */
			return DROP_INVALID_EXT_HEADER;
		reason = parse_ipv6_ext(ctx, p, &offset);
		if (reason)
			return reason;
		if (p->later_fragment)
			break;
	}
	p->l4_off = offset;
	if (p->later_fragment)
		return REASON_FORWARDED;
	if (is_ipv6_ext(p->l4_proto))
		return DROP_INVALID_EXT_HEADER;
	return parse_l4(ctx, p);
}

/* Fills all of p. linearise_headers() comes first. */
static __always_inline enum reason parse_packet(struct __sk_buff *ctx, struct packet *p)
{
	__builtin_memset(p, 0, sizeof(*p));
	if (ctx->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(ctx, p);
	if (ctx->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, p);
	return DROP_UNKNOWN_L3;
}

/* The size that a link sees, in bytes of L3: a segment's, for a train of them. */
static __always_inline __u32 packet_size(const struct __sk_buff *ctx, const struct packet *p)
{
	if (!ctx->gso_size)
		return p->l3_len;
	if (ctx->gso_size == GSO_BY_FRAGS) /* SCTP: each its own, cut by its sender */
		return p->l4_off - ETH_HLEN + p->l4_len;
	return p->l4_off - ETH_HLEN + p->l4_len + ctx->gso_size;
}

static __always_inline bool is_group(__u8 version, const union addr *addr)
{
	if (version == 4) /* 224/4 and 255/8 */
		return (addr->b[12] & 0xf0) == 0xe0 || addr->b[12] == 0xff;
	return addr->b[0] == 0xff;
}

static __always_inline bool is_multicast(const struct packet *p)
{
	return is_group(p->version, &p->dst);
}

/* Multicast that never leaves its link: 224.0.0.0/24, ff01::/16 and ff02::/16. */
static __always_inline bool is_link_multicast(const struct packet *p)
{
	if (p->version == 4)
		return p->dst.b[12] == 224 && !p->dst.b[13] && !p->dst.b[14];
	return p->dst.b[0] == 0xff && (p->dst.b[1] & 0xf) <= 2;
}

static __always_inline bool is_unspecified(const struct packet *p, const union addr *addr)
{
	return !addr->w[3] && (p->version == 4 || !(addr->w[0] | addr->w[1] | addr->w[2]));
}

static __always_inline bool is_link_local6(const union addr *addr)
{
	return addr->b[0] == 0xfe && (addr->b[1] & 0xc0) == 0x80;
}

/* Whether a router may pass the packet on at all: RFC 1812, 5.3.7; RFC 4291, 2.5. */
static __always_inline bool is_routable_source(const struct packet *p)
{
	if (is_group(p->version, &p->src))
		return false;
	if (p->version == 4)
		return p->src.w[3] && p->src.b[12] != 127;
	if (!(p->src.w[0] | p->src.w[1] | p->src.w[2]) && bpf_ntohl(p->src.w[3]) <= 1)
		return false; /* unspecified, loopback */
	return !is_link_local6(&p->src);
}
