/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a new flow may be. Asked once for a flow and again when the epoch
 * moved, never for each packet. What the answer is made of (sets, entries, lists
 * of ports, prefixes) is written by the agent; internal/policy explains it.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "settings.h"

/* What one direction of a flow is about, as its policy set sees it. */
struct policy_query {
	__u64 set;
	union addr peer;
	__u32 identity; /* of the peer */
	__u16 port; /* host order; of the side that did not begin the flow; ICMP: the type */
	__u8 proto;
	bool outside; /* the peer is no pod and no node */
};

/* What a list of ports, an entry or a set says of a flow. */
enum policy_answer {
	POLICY_SILENT,
	POLICY_ALLOWS,
	POLICY_DENIES,
};

static __always_inline bool range_fits(const struct port_range *r, const struct policy_query *q)
{
	return (!r->proto || r->proto == q->proto) && q->port >= r->first && q->port <= r->last &&
	       (q->outside || !(r->flags & PORT_OUTSIDE));
}

/* Not inlined, so that the verifier walks its loops once. */
__noinline int ports_answer(__u64 ports, const struct policy_query *q)
{
	struct port_list *list;
	int i, j;

	if (!q)
		return POLICY_SILENT;
	for (i = 0; i < POLICY_LISTS; i++) {
		list = table_lookup(&port_map, &ports);
		if (!list)
			return POLICY_SILENT;
		for (j = 0; j < POLICY_RANGES; j++) {
			if (j >= list->count)
				break;
			if (range_fits(&list->ranges[j], q))
				return list->ranges[j].flags & PORT_DENY ? POLICY_DENIES :
									   POLICY_ALLOWS;
		}
		ports = list->more;
		if (!ports)
			return POLICY_SILENT;
	}
	return POLICY_SILENT;
}

static __always_inline enum policy_answer entry_answer(const struct policy_query *q, __u64 peer)
{
	struct policy_key key = { .set = q->set, .peer = peer };
	struct policy_entry *entry = table_lookup(&policy_map, &key);

	if (!entry)
		return POLICY_SILENT;
	return entry->ports == POLICY_PORTS_ALL ? POLICY_ALLOWS : ports_answer(entry->ports, q);
}

/*
 * The peer may be meant by who it is, by its address, or as one of all. One entry
 * that allows is enough, where none denies.
 */
__noinline int set_answer(struct policy_query *q)
{
	const struct settings *settings = settings_get();
	struct cidr_key key = { .prefix_len = 128 };
	enum policy_answer answer, sum;
	struct cidr_entry *cidr;

	if (!q || !settings)
		return POLICY_SILENT;
	sum = entry_answer(q, q->identity);
	if (sum == POLICY_DENIES || (sum && !settings->has_denies))
		return sum;
	answer = entry_answer(q, POLICY_PEER_ANY);
	if (answer == POLICY_DENIES || (answer && !settings->has_denies))
		return answer;
	sum = sum ?: answer;
	if (!settings->has_cidrs)
		return sum;
	key.addr = q->peer;
	cidr = table_lookup(&cidr_map, &key);
	return (cidr ? entry_answer(q, cidr->peer) : POLICY_SILENT) ?: sum;
}

static __always_inline bool is_pod(const struct end *end)
{
	return end->here && !(end->ep.flags & ENDPOINT_HOST);
}

/* Who an end is, from what is known of its address. */
static __always_inline void identify(struct end *end, const struct endpoint *ep,
				     const union addr *addr)
{
	struct identity_entry *entry;

	end->here = ep;
	if (ep) {
		end->ep = *ep;
		end->identity = ep->flags & ENDPOINT_HOST ? IDENTITY_HOST :
				ep->identity		  ?:
							    IDENTITY_INIT;
		return;
	}
	entry = table_lookup(&identity_map, addr);
	end->identity = entry ? entry->identity : IDENTITY_WORLD;
}

enum policy_verdict {
	POLICY_ALLOW,
	POLICY_AUDIT, /* allowed, because the pod's policy is in audit mode */
	POLICY_DENY,
};

/*
 * The type by which policy knows an ICMP flow: its first packet's. Only echo has
 * answers, and packets without a header of their own.
 */
static __always_inline __u16 flow_icmp_type(const struct packet *p, bool from_origin)
{
	if (p->later_fragment || (!from_origin && is_echo_reply(p->l4_proto, p->icmp_type)))
		return p->l4_proto == IPPROTO_ICMP ? ICMP4_ECHO : ICMP6_ECHO;
	return p->icmp_type;
}

/* What one pod's set says, its audit mode considered. */
static __always_inline enum policy_verdict policy_direction(struct scratch *s, __u64 set,
							    bool audit, const struct end *peer,
							    const union addr *addr, __u16 port)
{
	struct policy_query q = {
		.set = set,
		.peer = *addr,
		.identity = peer->identity,
		.port = port,
		.proto = s->packet.l4_proto,
		.outside = peer->identity == IDENTITY_WORLD,
	};
	int answer = set == POLICY_SET_OPEN ? POLICY_ALLOWS : set_answer(&q);

	if (answer == POLICY_ALLOWS)
		return POLICY_ALLOW;
	s->denied = answer == POLICY_DENIES;
	return audit ? POLICY_AUDIT : POLICY_DENY;
}

/*
 * Both policies of the packet's flow, which its source began, or else its
 * destination. A node always reaches its own pods: without, the kubelet could
 * not probe them. Returns enum policy_verdict. Not inlined, so that the verifier
 * walks it once.
 */
__noinline int policy_judge(struct scratch *s, bool from_origin)
{
	enum policy_verdict verdict = POLICY_ALLOW, other;
	struct end *origin, *target;
	union addr *from, *to;
	__u16 port;

	if (!s)
		return POLICY_DENY;
	origin = from_origin ? &s->src : &s->dst;
	target = from_origin ? &s->dst : &s->src;
	/* The real ends: the source as it came, the destination as it goes. */
	from = from_origin ? &s->packet.src : &s->nat.addr[1];
	to = from_origin ? &s->nat.addr[1] : &s->packet.src;
	port = bpf_ntohs(from_origin ? s->nat.port[1] : s->packet.sport);
	if (s->packet.l4_proto == IPPROTO_ICMP || s->packet.l4_proto == IPPROTO_ICMPV6)
		port = flow_icmp_type(&s->packet, from_origin);
	if (is_pod(origin))
		verdict = policy_direction(s, origin->ep.egress_set,
					   origin->ep.flags & ENDPOINT_AUDIT_EGRESS, target, to,
					   port);
	if (verdict == POLICY_DENY || !is_pod(target) || origin->identity == IDENTITY_HOST)
		return verdict;
	other = policy_direction(s, target->ep.ingress_set,
				 target->ep.flags & ENDPOINT_AUDIT_INGRESS, origin, from, port);
	return other == POLICY_ALLOW ? verdict : other;
}

/* Why a flow may not be that policy_judge() denied just now. */
static __always_inline enum reason policy_reason(const struct scratch *s)
{
	return s->denied ? DROP_POLICY_DENY : DROP_POLICY;
}
