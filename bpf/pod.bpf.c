// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * from_pod: tcx ingress of the host side of every pod's pair; all that a pod
 * sends passes here first. Returns a redirect for what it forwards or answers,
 * TC_ACT_UNSPEC for what the node itself gets, TC_ACT_SHOT for the rest.
 *
 * to_pod: clsact egress of the same device: what reaches the pod through the
 * node's stack, from the node itself above all. Packets that from_pod,
 * from_netdev and from_overlay deliver do not pass here. Returns TC_ACT_UNSPEC
 * or TC_ACT_SHOT.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/continue.h"
#include "lib/count.h"
#include "lib/forward.h"
#include "lib/handover.h"
#include "lib/maps.h"
#include "lib/neigh.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/track.h"

/* Multicast and link-local packets end at the gateway. */
static __always_inline int on_link(struct __sk_buff *ctx, const struct packet *p)
{
	if (!is_link_multicast(p))
		return drop(ctx, HOOK_FROM_POD, DROP_UNKNOWN_TARGET);
	count(ctx, HOOK_FROM_POD, REASON_IGNORED);
	return TC_ACT_SHOT;
}

/* Whether a flow's end is the pod behind this device, and the frame says so too. */
static __always_inline bool is_sender(struct __sk_buff *ctx, const struct ct_way *way)
{
	struct ethhdr *eth = data_of(ctx);

	return (way->kind == WAY_PEER || way->kind == WAY_DEVICE) && way->ifindex == ctx->ifindex &&
	       (void *)(eth + 1) <= data_end_of(ctx) && same_mac(eth->h_source, way->dmac);
}

/* A packet whose flow is not established, or that is no flow's. */
static __noinline int from_pod_slow(struct __sk_buff *ctx, struct scratch *s)
{
	struct packet *p = &s->packet;
	struct endpoint *source = NULL;
	enum reason reason;

	/* Duplicate address detection has no source; nobody is there to object. */
	if (p->version == 6 && !(p->src.w[0] | p->src.w[1] | p->src.w[2] | p->src.w[3]) &&
	    is_link_multicast(p))
		return on_link(ctx, p);
	reason = check_source(ctx, &p->src, &source);
	if (reason || !source)
		return drop(ctx, HOOK_FROM_POD, reason);
	if (is_neighbour_solicitation(ctx, p))
		return handle_solicitation(ctx, p, source);
	if (is_multicast(p) || is_link_local6(&p->dst) || source->flags & ENDPOINT_LINK_LOCAL)
		return on_link(ctx, p);
	identify(&s->src, source, &p->src);
	reason = resolve(ctx, s, HOOK_FROM_POD, table_lookup(&endpoint_map, &p->dst));
	if (reason)
		return refuse(ctx, s, HOOK_FROM_POD, reason);
	return track_and_send(ctx, s, HOOK_FROM_POD);
}

PROGRAM_BEFORE(from_pod);

SEC("tcx/ingress")
int from_pod(struct __sk_buff *ctx)
{
	struct ct_entry *e;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;
	__u8 side;

	hand_over(ctx, &from_pod_v0);
	if (!scratch)
		return drop(ctx, HOOK_FROM_POD, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	if (ctx->vlan_present)
		return drop(ctx, HOOK_FROM_POD, DROP_VLAN);
	linearise_headers(ctx);
	if (ctx->protocol == bpf_htons(ETH_P_ARP))
		return handle_arp(ctx);
	reason = parse_packet(ctx, p);
	if (reason)
		return drop(ctx, HOOK_FROM_POD, reason);

	if (is_plain(p)) {
		e = ct_established(scratch);
		side = scratch->flow.side & 1;
		if (e && is_sender(ctx, &e->way[side]))
			return send_on(ctx, scratch, HOOK_FROM_POD, &e->way[!side],
				       ct_pass(ctx, scratch, HOOK_FROM_POD, e));
	}
	return from_pod_slow(ctx, scratch);
}

static __always_inline int delivered(struct __sk_buff *ctx)
{
	return forwarded(ctx, HOOK_TO_POD, TC_ACT_UNSPEC);
}

/* What the stack sends to the pod, translated where nat says so. */
static __always_inline int translate_and_deliver(struct __sk_buff *ctx, struct scratch *s,
						 const struct ct_nat *nat)
{
	if (nat && translate(ctx, s, nat))
		return drop(ctx, HOOK_TO_POD, DROP_WRITE_ERROR);
	return delivered(ctx);
}

static __noinline int to_pod_slow(struct __sk_buff *ctx, struct scratch *s)
{
	struct packet *p = &s->packet;
	enum reason reason;
	struct ct_entry *e;

	identify(&s->src, table_lookup(&endpoint_map, &p->src), &p->src);
	/* Whatever address it takes, what came in by no device is the node's own. */
	if (!ctx->ingress_ifindex && !is_pod(&s->src))
		s->src.identity = IDENTITY_HOST;
	reason = resolve(ctx, s, HOOK_TO_POD, table_lookup(&endpoint_map, &p->dst));
	if (reason)
		return drop(ctx, HOOK_TO_POD, reason);
	if (!is_pod(&s->dst) || s->dst.ep.ifindex != ctx->ifindex)
		return drop(ctx, HOOK_TO_POD, DROP_STALE_TARGET);
	reason = track(ctx, s, HOOK_TO_POD, &e);
	if (reason)
		return drop(ctx, HOOK_TO_POD, reason);
	return translate_and_deliver(ctx, s, s->translated ? &s->nat : NULL);
}

PROGRAM_BEFORE(to_pod);

SEC("tcx/egress")
int to_pod(struct __sk_buff *ctx)
{
	struct ct_entry *e;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;

	hand_over(ctx, &to_pod_v0);
	if (!scratch)
		return drop(ctx, HOOK_TO_POD, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	if (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6))
		return delivered(ctx); /* ARP: the stack's own question */
	linearise_headers(ctx);
	reason = parse_packet(ctx, p);
	if (reason)
		return drop(ctx, HOOK_TO_POD, reason);
	/* What stays on the link is between the node and its pod. */
	if (is_multicast(p) || is_link_local6(&p->src) || is_link_local6(&p->dst))
		return delivered(ctx);
	if (is_plain(p)) {
		e = ct_established(scratch);
		if (e)
			return translate_and_deliver(ctx, scratch,
						     ct_pass(ctx, scratch, HOOK_TO_POD, e));
	}
	return to_pod_slow(ctx, scratch);
}

char __license[] SEC("license") = "Dual BSD/GPL";
