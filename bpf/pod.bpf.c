// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * from_pod: tcx ingress of the host side of every pod's pair; all that a pod
 * sends passes here first. Returns a redirect for what it forwards or answers,
 * TC_ACT_UNSPEC for what the node itself gets, TC_ACT_SHOT for the rest.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/count.h"
#include "lib/encap.h"
#include "lib/forward.h"
#include "lib/maps.h"
#include "lib/neigh.h"
#include "lib/parse.h"

/* Multicast and link-local packets end at the gateway. */
static __always_inline int on_link(struct __sk_buff *ctx, const struct packet *p)
{
	if (!is_link_multicast(p))
		return drop(ctx, HOOK_FROM_POD, DROP_UNKNOWN_TARGET);
	count(ctx, HOOK_FROM_POD, REASON_IGNORED);
	return TC_ACT_SHOT;
}

SEC("tcx/ingress")
int from_pod(struct __sk_buff *ctx)
{
	struct endpoint *source = NULL, *target;
	enum reason reason;
	struct packet p;

	if (ctx->vlan_present)
		return drop(ctx, HOOK_FROM_POD, DROP_VLAN);
	linearise_headers(ctx);
	if (ctx->protocol == bpf_htons(ETH_P_ARP))
		return handle_arp(ctx);

	reason = parse_packet(ctx, &p);
	if (reason)
		return drop(ctx, HOOK_FROM_POD, reason);
	/* Duplicate address detection has no source; nobody is there to object. */
	if (p.version == 6 && !(p.src.w[0] | p.src.w[1] | p.src.w[2] | p.src.w[3]) &&
	    is_link_multicast(&p))
		return on_link(ctx, &p);
	reason = check_source(ctx, &p.src, &source);
	if (reason || !source)
		return drop(ctx, HOOK_FROM_POD, reason);
	if (is_neighbour_solicitation(ctx, &p))
		return handle_solicitation(ctx, &p, source);
	if (is_multicast(&p) || is_link_local6(&p.dst) || source->flags & ENDPOINT_LINK_LOCAL)
		return on_link(ctx, &p);

	target = table_lookup(&endpoint_map, &p.dst);
	if (target && target->flags & ENDPOINT_HOST)
		return to_stack(ctx, HOOK_FROM_POD);
	if (target)
		return to_local_pod(ctx, &p, HOOK_FROM_POD, target);
	if (config.tunnel && ipcache_lookup(&p.dst))
		return to_tunnel(ctx, &p, HOOK_FROM_POD);
	return to_network(ctx, &p, HOOK_FROM_POD);
}

char __license[] SEC("license") = "Dual BSD/GPL";
