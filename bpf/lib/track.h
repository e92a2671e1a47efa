/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The slow part of every program that packets to or from pods pass, once it
 * knows who the two ends are: fragments, ICMP errors, conntrack and policy.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "begin.h"
#include "continue.h"
#include "count.h"
#include "forward.h"
#include "parse.h"
#include "policy.h"
#include "nat.h"
#include "resolve.h"

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
 * The entry of a packet that the fast path has none for: of a flow that is new,
 * half open, was judged before a permission was taken away, or begins again.
 * Returns NULL with *reason: a drop, or REASON_CT_RACED, when the packet may
 * pass but there is no entry to remember that in.
 */
static __noinline struct ct_entry *ct_settle(struct __sk_buff *ctx, struct scratch *s,
					     enum hook hook, enum reason *reason)
{
	const struct settings *settings = settings_get();
	bool embryonic = false, opening = is_opening(&s->packet);
	enum ct_outcome outcome;
	struct ct_entry *e;
	__u32 flags = 0;

	*reason = DROP_POLICY;
	if (!settings)
		return NULL;
	s->epoch = *(volatile __u32 *)&settings->epoch; /* before anything is judged */
	/* What is denied costs no look-up of flows: it is what floods consist of. */
	if (opening)
		flags = ct_judge(ctx, s, hook, true);
	if (flags & CT_DEAD)
		return NULL;
	e = s->unknown ? NULL : ct_known(s, &embryonic);
	if (e && !s->anew && ct_continues(settings, e, s)) {
		/* Of twins, each is for the packets that it translates. */
		if (!(ct_state(e) & CT_NAT) != !s->translated) {
			*reason = DROP_NAT_CONFLICT;
			return NULL;
		}
		outcome = ct_continue(ctx, s, hook, e, embryonic);
		if (outcome == CT_DENIED)
			return NULL;
		return outcome == CT_STAYED ? e : ct_lookup(&s->flow.key) ?: e;
	}
	if (!opening)
		flags = ct_judge(ctx, s, hook, true);
	if (flags & CT_DEAD)
		return NULL;
	*reason = ct_begin(s, e, flags);
	if (*reason == REASON_CT_RACED && e && ct_state(e) & CT_MOVED) {
		e = ct_known(s, &embryonic); /* where it is now */
		*reason = ct_begin(s, e, flags);
	}
	if (*reason || e)
		return *reason ? NULL : e;
	if (ct_begins_with_answer(s)) {
		end_way(&s->entry.way[!s->flow.side], &s->dst);
		return &s->entry;
	}
	/* With both ways known there is nothing more to write. */
	if (s->entry.way[0].kind != WAY_UNKNOWN && s->entry.way[1].kind != WAY_UNKNOWN)
		return &s->entry;
	e = ct_lookup_new(&s->flow.key);
	return e ?: &s->entry;
}

/*
 * May the packet pass? resolve() has found its ends. Returns 0, with the flow's
 * entry in *out or NULL when it has none, or the reason to drop it.
 */
static __always_inline enum reason track(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					 struct ct_entry **out)
{
	enum reason reason;

	*out = NULL;
	if (s->portless)
		return is_open(&s->src, &s->dst) ? REASON_FORWARDED : DROP_FRAGMENT_UNKNOWN;
	if (s->related)
		return REASON_FORWARDED;
	if (is_icmp_error(&s->packet))
		return ct_judge(ctx, s, hook, true) & CT_DEAD ? policy_reason(s) : REASON_FORWARDED;
	*out = ct_settle(ctx, s, hook, &reason);
	if (*out)
		return REASON_FORWARDED;
	if (reason != REASON_CT_RACED)
		return reason == DROP_POLICY ? policy_reason(s) : reason;
	count(ctx, hook, REASON_CT_RACED);
	return REASON_FORWARDED;
}

/* The slow part to its end: judge the packet, and send it to where its flow goes. */
static __always_inline int track_and_send(struct __sk_buff *ctx, struct scratch *s, enum hook hook)
{
	const struct ct_nat *nat = s->translated ? &s->nat : NULL;
	struct ct_way *way = &s->way;
	struct ct_entry *e;
	enum reason reason = track(ctx, s, hook, &e);

	if (reason)
		return drop(ctx, hook, reason);
	if (e)
		way = &e->way[!s->flow.side];
	else
		end_way(way, &s->dst);
	return send_on(ctx, s, hook, way, nat);
}

/* Drop a packet that asks for a service and cannot be served. */
static __always_inline int refuse(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				  enum reason reason)
{
	if (reason != DROP_NO_BACKEND || !config.reject)
		return drop(ctx, hook, reason);
	return drop_and_tell(ctx, &s->packet, hook, reason, ICMP_ERROR_PORT, 0);
}

/* The same for an answer whose flow is not established. */
__noinline int answer_from_host_slow(struct __sk_buff *ctx, struct scratch *s, enum hook hook)
{
	enum reason reason;
	struct ct_entry *e;

	if (!s)
		return REASON_FORWARDED;
	resolve_plain(s);
	if (s->portless)
		return REASON_FORWARDED;
	if (is_icmp_error(&s->packet))
		s->related = find_related(ctx, s);
	else
		resolve_known(s, &reason);
	if (!s->translated)
		return REASON_FORWARDED;
	identify(&s->src, table_lookup(&endpoint_map, &s->packet.src), &s->packet.src);
	identify(&s->dst, table_lookup(&endpoint_map, &s->nat.addr[1]), &s->nat.addr[1]);
	reason = track(ctx, s, hook, &e);
	if (reason)
		return reason;
	return translate(ctx, s, &s->nat) ? DROP_WRITE_ERROR : REASON_FORWARDED;
}

/*
 * What the node's own stack sends out of one of its devices: an answer of a
 * service that it serves gets the address that was asked. The way it goes is the
 * stack's. Returns 0, or the reason to drop the packet.
 */
static __always_inline enum reason answer_from_host(struct __sk_buff *ctx, struct scratch *s,
						    enum hook hook)
{
	const struct ct_nat *nat;
	struct ct_entry *e;

	if (!config.services || ctx->ingress_ifindex)
		return REASON_FORWARDED;
	if (!is_plain(&s->packet))
		return answer_from_host_slow(ctx, s, hook);
	e = ct_established(s);
	if (!e)
		return answer_from_host_slow(ctx, s, hook);
	nat = ct_pass(ctx, s, hook, e);
	return nat && translate(ctx, s, nat) ? DROP_WRITE_ERROR : REASON_FORWARDED;
}
