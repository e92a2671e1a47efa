// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * from_netdev, to_netdev: tcx ingress and egress of the node's native devices.
 * from_netdev takes what is for a pod of this node; everything else is the
 * stack's. to_netdev sees all that leaves the node and counts it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/conntrack.h"
#include "lib/count.h"
#include "lib/forward.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/track.h"

/* A packet that no established flow has, and that may not be for a pod at all. */
static __noinline int from_netdev_slow(struct __sk_buff *ctx, struct scratch *s, enum reason reason)
{
	struct packet *p = &s->packet;
	struct endpoint *target = table_lookup(&endpoint_map, &p->dst);
	int verdict;

	if (target && !(target->flags & (ENDPOINT_HOST | ENDPOINT_LINK_LOCAL))) {
		if (reason)
			return drop(ctx, HOOK_FROM_NETDEV, reason);
		if (is_routable_source(p)) {
			/* Who lives here does not come from there. */
			if (table_lookup(&endpoint_map, &p->src))
				return drop(ctx, HOOK_FROM_NETDEV, DROP_INVALID_SOURCE);
			identify(&s->src, NULL, &p->src);
			identify(&s->dst, target, &p->dst);
			return track_and_send(ctx, s, HOOK_FROM_NETDEV);
		}
	}
	/* What the node itself gets, or no router passes on, is judged by its stack. */
	if (!target && !reason && !is_multicast(p) && is_vacant(ctx, p, HOOK_FROM_NETDEV, &verdict))
		return verdict;
	return to_stack(ctx, HOOK_FROM_NETDEV);
}

SEC("tcx/ingress")
int from_netdev(struct __sk_buff *ctx)
{
	struct ct_entry *e;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;
	struct flow *f;

	if (!scratch)
		return drop(ctx, HOOK_FROM_NETDEV, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	f = &scratch->flow;
	/* Other protocols, tagged frames and other hosts' frames are not for pods. */
	if (ctx->vlan_present || ctx->pkt_type != PACKET_HOST ||
	    (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6)))
		return to_stack(ctx, HOOK_FROM_NETDEV);
	linearise_headers(ctx);
	reason = parse_packet(ctx, p);
	if (!p->version)
		return drop(ctx, HOOK_FROM_NETDEV, reason);

	if (!reason && is_plain(p)) {
		flow_of(p, f);
		e = ct_established(scratch);
		if (e && is_elsewhere(&e->way[f->side & 1])) {
			ct_pass(e, f, p);
			return send_on(ctx, p, HOOK_FROM_NETDEV, &e->way[!f->side]);
		}
	}
	return from_netdev_slow(ctx, scratch, reason);
}

SEC("tcx/egress")
int to_netdev(struct __sk_buff *ctx)
{
	return forwarded(ctx, HOOK_TO_NETDEV, TC_ACT_UNSPEC);
}

char __license[] SEC("license") = "Dual BSD/GPL";
