/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors speak of a packet that the receiver sent: they belong to its flow
 * and pass wherever the flow does. RFC 792, RFC 4443.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "entry.h"
#include "flow.h"
#include "maps.h"
#include "parse.h"
#include "settings.h"
#include "wire.h"

static __always_inline bool is_icmp_error(const struct packet *p)
{
	if (p->later_fragment)
		return false;
	if (p->l4_proto == IPPROTO_ICMP)
		return p->icmp_type == ICMP4_UNREACHABLE || p->icmp_type == ICMP4_TIME_EXCEEDED ||
		       p->icmp_type == ICMP4_PARAMETER_PROBLEM;
	return p->l4_proto == IPPROTO_ICMPV6 && p->icmp_type >= ICMP6_UNREACHABLE &&
	       p->icmp_type <= ICMP6_PARAMETER_PROBLEM;
}

/* The first bytes of the quoted packet's L4 header: all that RFC 792 promises. */
struct quoted_l4 {
	__be16 sport; /* of ICMP: type and code */
	__be16 dport; /* the checksum */
	__be16 id; /* of ICMP echo */
	__be16 rest;
};

static __always_inline void quoted_ports(struct packet *inner, const struct quoted_l4 *l4)
{
	__u8 type = *(__u8 *)&l4->sport;

	switch (inner->l4_proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		inner->sport = l4->sport;
		inner->dport = l4->dport;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		inner->icmp_type = type;
		if (is_echo_request(inner->l4_proto, type))
			inner->sport = l4->id;
		else if (is_echo_reply(inner->l4_proto, type))
			inner->dport = l4->id;
	}
}

/* Addresses and ports of the packet that an ICMP error quotes. */
static __always_inline int parse_quoted(struct __sk_buff *ctx, const struct packet *p,
					struct packet *inner)
{
	__u32 offset = p->l4_off + sizeof(struct icmp_header);
	struct quoted_l4 l4;

	__builtin_memset(inner, 0, sizeof(*inner));
	if (p->version == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 4 ||
		    ip.ihl < 5 || bpf_ntohs(ip.frag_off) & IP_OFFSET)
			return -1;
		addr_from_ip4(&inner->src, ip.saddr);
		addr_from_ip4(&inner->dst, ip.daddr);
		inner->l4_proto = ip.protocol;
		offset += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		/* Behind extension headers is nothing that must be quoted. */
		if (bpf_skb_load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 6)
			return -1;
		addr_from_ip6(&inner->src, &ip.saddr);
		addr_from_ip6(&inner->dst, &ip.daddr);
		inner->l4_proto = ip.nexthdr;
		offset += sizeof(ip);
	}
	if (bpf_skb_load_bytes(ctx, offset, &l4, sizeof(l4)))
		return -1;
	inner->l4_off = offset;
	quoted_ports(inner, &l4);
	return 0;
}

/*
 * Whether the packet is an ICMP error to one end of a flow that is known. What a
 * packet of that flow would get on this way is left in s->nat.
 */
__noinline int find_related(struct __sk_buff *ctx, struct scratch *s)
{
	const struct settings *settings = settings_get();
	struct packet *inner;
	struct ct_entry *e;
	struct flow *f;
	__u32 flags;

	if (!s || !settings)
		return false;
	inner = &s->quoted;
	f = &s->quoted_flow;
	if (parse_quoted(ctx, &s->packet, inner) || !addr_equal(&inner->src, &s->packet.dst))
		return false;
	flow_of(inner, f);
	e = ct_lookup(&f->key);
	if (!e || !ct_alive(settings, e, inner->l4_proto, ct_state(e)))
		e = ct_lookup_new(&f->key);
	/* The quoted packet passed a moment ago, so its flow was judged since the last change. */
	if (!e || e->epoch != settings->epoch ||
	    !ct_alive(settings, e, inner->l4_proto, ct_state(e)))
		return false;
	flags = ct_state(e);
	/* The quoted packet went the other way: it left as it is quoted. */
	if (flags & CT_NAT && nat_side(flags) != f->side) {
		s->nat = e->nat;
		s->translated = true;
	}
	return true;
}
