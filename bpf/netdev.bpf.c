// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * from_netdev, to_netdev: tcx ingress and egress of the node's native devices.
 * from_netdev takes what is for a pod of this node; everything else is the
 * stack's, as long as no service has its address and port. to_netdev sees all
 * that leaves the node, and translates what the node itself answers.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/continue.h"
#include "lib/count.h"
#include "lib/forward.h"
#include "lib/handover.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/track.h"

/* A packet that no established flow has, and that may not be for a pod at all. */
static __noinline int from_netdev_slow(struct __sk_buff *ctx, struct scratch *s, enum reason reason)
{
	struct packet *p = &s->packet;
	struct endpoint *target = table_lookup(&endpoint_map, &p->dst);
	bool pod = target && !(target->flags & (ENDPOINT_HOST | ENDPOINT_LINK_LOCAL));
	int verdict;

	if (pod && reason)
		return drop(ctx, HOOK_FROM_NETDEV, reason);
	/* What the node itself gets, or no router passes on, is judged by its stack. */
	if (reason || is_multicast(p) || (target && target->flags & ENDPOINT_LINK_LOCAL))
		return to_stack(ctx, HOOK_FROM_NETDEV);
	if (is_routable_source(p)) {
		identify(&s->src, NULL, &p->src);
		reason = resolve(ctx, s, HOOK_FROM_NETDEV, target);
		if (reason)
			return refuse(ctx, s, HOOK_FROM_NETDEV, reason);
		if (s->translated || pod) {
			/* Who lives here does not come from there. */
			if (table_lookup(&endpoint_map, &p->src))
				return drop(ctx, HOOK_FROM_NETDEV, DROP_INVALID_SOURCE);
			return track_and_send(ctx, s, HOOK_FROM_NETDEV);
		}
	}
	if (!target && is_vacant(ctx, s, HOOK_FROM_NETDEV, &verdict))
		return verdict;
	return to_stack(ctx, HOOK_FROM_NETDEV);
}

PROGRAM_BEFORE(from_netdev);

SEC("tcx/ingress")
int from_netdev(struct __sk_buff *ctx)
{
	struct ct_entry *e;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;
	__u8 side;

	hand_over(ctx, &from_netdev_v0);
	if (!scratch)
		return drop(ctx, HOOK_FROM_NETDEV, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	/* Other protocols, tagged frames and other hosts' frames are not for pods. */
	if (ctx->vlan_present || ctx->pkt_type != PACKET_HOST ||
	    (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6)))
		return to_stack(ctx, HOOK_FROM_NETDEV);
	linearise_headers(ctx);
	reason = parse_packet(ctx, p);
	if (!p->version)
		return drop(ctx, HOOK_FROM_NETDEV, reason);

	if (!reason && is_plain(p)) {
		e = ct_established(scratch);
		side = scratch->flow.side & 1;
		if (e && is_elsewhere(&e->way[side]))
			return send_on(ctx, scratch, HOOK_FROM_NETDEV, &e->way[!side],
				       ct_pass(ctx, scratch, HOOK_FROM_NETDEV, e));
	}
	return from_netdev_slow(ctx, scratch, reason);
}

PROGRAM_BEFORE(to_netdev);

SEC("tcx/egress")
int to_netdev(struct __sk_buff *ctx)
{
	struct scratch *scratch = scratch_get();
	enum reason reason;

	hand_over(ctx, &to_netdev_v0);
	/* What came in by a device was translated there. */
	if (config.services && !ctx->ingress_ifindex && scratch &&
	    (ctx->protocol == bpf_htons(ETH_P_IP) || ctx->protocol == bpf_htons(ETH_P_IPV6))) {
		linearise_headers(ctx);
		/* What the node's stack sends is not judged here. */
		if (!parse_packet(ctx, &scratch->packet)) {
			reason = answer_from_host(ctx, scratch, HOOK_TO_NETDEV);
			if (reason)
				return drop(ctx, HOOK_TO_NETDEV, reason);
		}
	}
	return forwarded(ctx, HOOK_TO_NETDEV, TC_ACT_UNSPEC);
}

char __license[] SEC("license") = "Dual BSD/GPL";
