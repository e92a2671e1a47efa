/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The slow part of every program that packets to or from pods pass, once it
 * knows who the two ends are: fragments, ICMP errors, conntrack and policy.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "conntrack.h"
#include "count.h"
#include "forward.h"
#include "fragment.h"
#include "parse.h"
#include "policy.h"
#include "related.h"

/* Whether a flow that is established is all there is to know about such a packet. */
static __always_inline bool is_plain(const struct packet *p)
{
	if (p->fragment || is_opening(p))
		return false;
	if (p->l4_proto != IPPROTO_ICMP && p->l4_proto != IPPROTO_ICMPV6)
		return true;
	return is_echo_request(p->l4_proto, p->icmp_type) ||
	       is_echo_reply(p->l4_proto, p->icmp_type);
}

/* Whether a flow's end is elsewhere: only then may its packets come from there. */
static __always_inline bool is_elsewhere(const struct ct_way *way)
{
	return way->kind == WAY_UNKNOWN || way->kind >= WAY_NETWORK;
}

/* No policy would drop a packet, with or without ports. */
static __always_inline bool is_open(const struct end *src, const struct end *dst)
{
	return (!is_pod(src) || src->ep.egress_set == POLICY_SET_OPEN ||
		src->ep.flags & ENDPOINT_AUDIT_EGRESS) &&
	       (!is_pod(dst) || dst->ep.ingress_set == POLICY_SET_OPEN ||
		dst->ep.flags & ENDPOINT_AUDIT_INGRESS || src->identity == IDENTITY_HOST);
}

/*
 * May the packet pass? s has its ends. Returns 0, with the flow's entry in *out
 * or NULL when it has none, or the reason to drop it.
 */
static __always_inline enum reason track(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					 struct ct_entry **out)
{
	enum reason reason;

	*out = NULL;
	if (s->packet.fragment && !fragment_ports(&s->packet))
		return is_open(&s->src, &s->dst) ? REASON_FORWARDED : DROP_FRAGMENT_UNKNOWN;
	if (is_icmp_error(&s->packet)) {
		if (is_related(ctx, s))
			return REASON_FORWARDED;
		return ct_judge(ctx, s, hook, true) & CT_DEAD ? DROP_POLICY : REASON_FORWARDED;
	}
	if (!is_plain(&s->packet)) { /* else the fast path did */
		flow_of(&s->packet, &s->flow);
		s->absent = false;
	}
	*out = ct_settle(ctx, s, hook, &reason);
	if (*out)
		return REASON_FORWARDED;
	if (reason != REASON_CT_RACED)
		return reason;
	count(ctx, hook, REASON_CT_RACED);
	return REASON_FORWARDED;
}

/* The slow part to its end: judge the packet, and send it to where its flow goes. */
static __always_inline int track_and_send(struct __sk_buff *ctx, struct scratch *s, enum hook hook)
{
	struct ct_way *way = &s->way;
	struct ct_entry *e;
	enum reason reason = track(ctx, s, hook, &e);

	if (reason)
		return drop(ctx, hook, reason);
	if (e)
		way = &e->way[!s->flow.side];
	else
		end_way(way, &s->dst);
	return send_on(ctx, &s->packet, hook, way);
}
