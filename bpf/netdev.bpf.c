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
#include "lib/count.h"
#include "lib/forward.h"
#include "lib/maps.h"
#include "lib/parse.h"

SEC("tcx/ingress")
int from_netdev(struct __sk_buff *ctx)
{
	struct endpoint *target;
	enum reason reason;
	struct packet p;
	int verdict;

	/* Other protocols, tagged frames and other hosts' frames are not for pods. */
	if (ctx->vlan_present || ctx->pkt_type != PACKET_HOST ||
	    (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6)))
		return to_stack(ctx, HOOK_FROM_NETDEV);
	linearise_headers(ctx);
	reason = parse_packet(ctx, &p);
	if (!p.version)
		return drop(ctx, HOOK_FROM_NETDEV, reason);

	target = table_lookup(&endpoint_map, &p.dst);
	if (target && !(target->flags & (ENDPOINT_HOST | ENDPOINT_LINK_LOCAL))) {
		if (reason)
			return drop(ctx, HOOK_FROM_NETDEV, reason);
		if (is_routable_source(&p))
			return to_local_pod(ctx, &p, HOOK_FROM_NETDEV, target);
	}
	/* What the node itself gets, or no router passes on, is judged by its stack. */
	if (!target && !reason && !is_multicast(&p) &&
	    is_vacant(ctx, &p, HOOK_FROM_NETDEV, &verdict))
		return verdict;
	return to_stack(ctx, HOOK_FROM_NETDEV);
}

SEC("tcx/egress")
int to_netdev(struct __sk_buff *ctx)
{
	return forwarded(ctx, HOOK_TO_NETDEV, TC_ACT_UNSPEC);
}

char __license[] SEC("license") = "Dual BSD/GPL";
