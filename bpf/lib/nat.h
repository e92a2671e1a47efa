/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translation of a packet: its ends are replaced by those of struct ct_nat. The
 * kernel's helper mends the checksum of L4, because only it knows whether the
 * sender or a device has computed it already.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "icmp.h"
#include "parse.h"
#include "scratch.h"
#include "wire.h"

#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6
#define ICMP_CHECK_OFFSET 2
#define ICMP_ID_OFFSET 4
#ifndef BPF_F_IPV6
#define BPF_F_IPV6 (1ULL << 7) /* Linux 6.16; before, the helper refuses it */
#endif

/* What a word that is replaced adds to a sum of 32-bit words: RFC 1624. */
static __always_inline __u64 csum_word(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline __u32 csum_fold64(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

static __always_inline __u16 csum_fold32(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What another address adds to the sum of its header, or pseudo header. */
static __always_inline __u64 csum_addr(__u8 version, const union addr *from, const union addr *to)
{
	__u64 sum = csum_word(from->w[3], to->w[3]);

	if (version == 6)
		sum += csum_word(from->w[0], to->w[0]) + csum_word(from->w[1], to->w[1]) +
		       csum_word(from->w[2], to->w[2]);
	return sum;
}

/* Write both addresses of a header at l3, and its own checksum, if it has one. */
static __always_inline int set_addrs(struct __sk_buff *ctx, __u32 l3_off, __u8 version,
				     const union addr *src, const union addr *dst, __u32 diff)
{
	void *l3 = data_of(ctx) + l3_off;

	if (l3_off > HEADERS_MAX + sizeof(struct icmp_header))
		return -1;
	if (version == 4) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > data_end_of(ctx))
			return -1;
		ip->saddr = src->w[3];
		ip->daddr = dst->w[3];
		ip->check = ~csum_fold32((__u32)(__u16)~ip->check + csum_fold32(diff));
	} else {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > data_end_of(ctx))
			return -1;
		__builtin_memcpy(&ip->saddr, src, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, dst, sizeof(ip->daddr));
	}
	return 0;
}

/* Mend a checksum of L4 for addresses that changed. */
static __always_inline int mend_pseudo(struct __sk_buff *ctx, const struct packet *p, __u32 offset,
				       __u32 diff, __u64 flags)
{
	flags |= BPF_F_PSEUDO_HDR;
	if (p->version == 6 && !bpf_l4_csum_replace(ctx, offset, 0, diff, flags | BPF_F_IPV6))
		return 0;
	return bpf_l4_csum_replace(ctx, offset, 0, diff, flags);
}

/* Ports, and the checksum that has them and the addresses. */
static __always_inline int translate_ports(struct __sk_buff *ctx, const struct packet *p,
					   const struct ct_nat *nat, __u32 addr_diff)
{
	bool udp = p->l4_proto == IPPROTO_UDP;
	__u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 l4_off = p->l4_off, diff;
	__u32 check = l4_off + (udp ? UDP_CHECK_OFFSET : TCP_CHECK_OFFSET);
	__be16 *ports = data_of(ctx) + l4_off;

	if (l4_off > HEADERS_MAX || (void *)(ports + 2) > data_end_of(ctx))
		return -1;
	diff = csum_fold64(csum_word(ports[0], nat->port[0]) + csum_word(ports[1], nat->port[1]));
	ports[0] = nat->port[0];
	ports[1] = nat->port[1];
	if (p->l4_proto == IPPROTO_SCTP) /* its sum has no addresses, and its ports stay */
		return 0;
	if (mend_pseudo(ctx, p, check, addr_diff, flags))
		return -1;
	if (p->sport == nat->port[0] && p->dport == nat->port[1])
		return 0;
	return bpf_l4_csum_replace(ctx, check, 0, diff, flags);
}

/* The identifier of ICMP echo, and its checksum. */
static __always_inline int translate_echo(struct __sk_buff *ctx, const struct packet *p,
					  const struct ct_nat *nat, __u32 addr_diff)
{
	__be16 id = is_echo_request(p->l4_proto, p->icmp_type) ? nat->port[0] : nat->port[1];
	__u32 l4_off = p->l4_off, check = l4_off + ICMP_CHECK_OFFSET, diff;
	__be16 *there = data_of(ctx) + l4_off + ICMP_ID_OFFSET;

	if (l4_off > HEADERS_MAX || (void *)(there + 1) > data_end_of(ctx))
		return -1;
	diff = csum_fold64(csum_word(*there, id));
	*there = id;
	if (p->version == 6 && mend_pseudo(ctx, p, check, addr_diff, 0))
		return -1;
	return bpf_l4_csum_replace(ctx, check, 0, diff, 0);
}

/*
 * An ICMP error, and the packet that it quotes, which went the other way. The
 * checksum of the quoted L4 header is left: nobody can verify it, as the rest of
 * the packet is missing.
 */
static __always_inline int translate_error(struct __sk_buff *ctx, const struct packet *p,
					   const struct packet *quoted, const struct ct_nat *nat,
					   __u32 addr_diff)
{
	__u32 inner = p->l4_off + sizeof(struct icmp_header), check = p->l4_off + ICMP_CHECK_OFFSET;
	__u64 sum = csum_addr(p->version, &quoted->src, &nat->addr[1]) +
		    csum_addr(p->version, &quoted->dst, &nat->addr[0]);
	bool ports = quoted->l4_proto == IPPROTO_TCP || quoted->l4_proto == IPPROTO_UDP;
	__be16 pair[2] = { nat->port[1], nat->port[0] };
	__be16 id = quoted->sport ? nat->port[1] : nat->port[0];
	__u64 diff = 0;

	if (ports) {
		diff = csum_word(quoted->sport, pair[0]) + csum_word(quoted->dport, pair[1]);
		if (bpf_skb_store_bytes(ctx, quoted->l4_off, pair, sizeof(pair), 0))
			return -1;
	} else if (quoted->l4_proto == IPPROTO_ICMP || quoted->l4_proto == IPPROTO_ICMPV6) {
		diff = csum_word(quoted->sport | quoted->dport, id);
		if (bpf_skb_store_bytes(ctx, quoted->l4_off + ICMP_ID_OFFSET, &id, sizeof(id), 0))
			return -1;
	}
	/* Of IPv4 the quoted header's own checksum makes up for its addresses. */
	if (p->version == 6)
		diff += sum;
	if (set_addrs(ctx, inner, p->version, &nat->addr[1], &nat->addr[0], csum_fold64(sum)))
		return -1;
	if (p->version == 6 && mend_pseudo(ctx, p, check, addr_diff, 0))
		return -1;
	return bpf_l4_csum_replace(ctx, check, 0, csum_fold64(diff), 0);
}

/*
 * Give the packet the ends of nat. p stays as it was parsed. Returns nonzero when
 * the packet could not be written to; it is spoilt then. Not inlined, so that the
 * verifier walks it once.
 */
__noinline int translate(struct __sk_buff *ctx, struct scratch *s, const struct ct_nat *nat)
{
	const struct packet *p;
	union addr src;
	__u32 diff;

	if (!s || !nat)
		return -1;
	p = &s->packet;
	src = nat->addr[0];
	/* An error of a router on the way has a source of its own. */
	if (s->related && !addr_equal(&p->src, &s->quoted.dst))
		src = p->src;
	diff = csum_fold64(csum_addr(p->version, &p->src, &src) +
			   csum_addr(p->version, &p->dst, &nat->addr[1]));
	if (set_addrs(ctx, ETH_HLEN, p->version, &src, &nat->addr[1], diff))
		return -1;
	if (s->related)
		return translate_error(ctx, p, &s->quoted, nat, diff);
	if (p->later_fragment)
		return 0;
	switch (p->l4_proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return translate_ports(ctx, p, nat, diff);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return translate_echo(ctx, p, nat, diff);
	}
	return 0;
}
