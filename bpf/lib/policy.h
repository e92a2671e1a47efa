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
	__u16 port; /* host order; of the side that did not begin the flow */
	__u8 proto;
	__u8 pad;
};

/* Not inlined, so that the verifier walks its loops once. */
__noinline int ports_allow(__u64 ports, __u32 proto, __u32 port)
{
	struct port_list *list;
	struct port_range *r;
	int i, j;

	for (i = 0; i < POLICY_LISTS; i++) {
		list = table_lookup(&port_map, &ports);
		if (!list)
			return 0;
		for (j = 0; j < POLICY_RANGES; j++) {
			r = &list->ranges[j];
			if (j >= list->count)
				break;
			if (r->proto == proto && port >= r->first && port <= r->last)
				return 1;
		}
		ports = list->more;
		if (!ports)
			return 0;
	}
	return 0;
}

static __always_inline bool set_allows(const struct policy_query *q, __u64 peer)
{
	struct policy_key key = { .set = q->set, .peer = peer };
	struct policy_entry *entry = table_lookup(&policy_map, &key);

	if (!entry)
		return false;
	return entry->ports == POLICY_PORTS_ALL || ports_allow(entry->ports, q->proto, q->port);
}

/* The peer may be meant by who it is, by its address, or as one of all. */
__noinline int policy_allows(struct policy_query *q)
{
	const struct settings *settings = settings_get();
	struct cidr_key key = { .prefix_len = 128 };
	struct cidr_entry *cidr;

	if (!q || !settings)
		return 0;
	if (set_allows(q, q->identity) || set_allows(q, POLICY_PEER_ANY))
		return 1;
	if (!settings->has_cidrs)
		return 0;
	key.addr = q->peer;
	cidr = table_lookup(&cidr_map, &key);
	return cidr && set_allows(q, cidr->peer);
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

/* What one pod's set says, its audit mode considered. */
static __always_inline enum policy_verdict policy_direction(__u64 set, bool audit,
							    const struct end *peer,
							    const union addr *addr, __u8 proto,
							    __be16 port)
{
	struct policy_query q = {
		.set = set,
		.peer = *addr,
		.identity = peer->identity,
		.port = bpf_ntohs(port),
		.proto = proto,
	};

	if (set == POLICY_SET_OPEN || policy_allows(&q))
		return POLICY_ALLOW;
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
	__u8 proto;
	__be16 port;

	if (!s)
		return POLICY_DENY;
	origin = from_origin ? &s->src : &s->dst;
	target = from_origin ? &s->dst : &s->src;
	/* The real ends: the source as it came, the destination as it goes. */
	from = from_origin ? &s->packet.src : &s->nat.addr[1];
	to = from_origin ? &s->nat.addr[1] : &s->packet.src;
	port = from_origin ? s->nat.port[1] : s->packet.sport;
	proto = s->packet.l4_proto;
	if (is_pod(origin))
		verdict = policy_direction(origin->ep.egress_set,
					   origin->ep.flags & ENDPOINT_AUDIT_EGRESS, target, to,
					   proto, port);
	if (verdict == POLICY_DENY || !is_pod(target) || origin->identity == IDENTITY_HOST)
		return verdict;
	other = policy_direction(target->ep.ingress_set, target->ep.flags & ENDPOINT_AUDIT_INGRESS,
				 origin, from, proto, port);
	return other == POLICY_ALLOW ? verdict : other;
}
