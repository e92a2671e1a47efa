// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * from_overlay, to_overlay: tcx ingress and egress of the node's VXLAN device,
 * which carries no remote address of its own: to_overlay sets it packet by
 * packet, from_overlay reads it. The inner Ethernet header means nothing.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/continue.h"
#include "lib/count.h"
#include "lib/encap.h"
#include "lib/forward.h"
#include "lib/handover.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/track.h"

static __noinline int from_overlay_slow(struct __sk_buff *ctx, struct scratch *s)
{
	struct packet *p = &s->packet;
	struct endpoint *target;
	enum reason reason;
	int verdict;

	if (!is_routable_source(p))
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_INVALID_SOURCE);
	target = table_lookup(&endpoint_map, &p->dst);
	if (!target)
		return is_vacant(ctx, s, HOOK_FROM_OVERLAY, &verdict) ?
			       verdict :
			       drop(ctx, HOOK_FROM_OVERLAY, DROP_STALE_TARGET);
	if (target->flags & ENDPOINT_LINK_LOCAL)
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_UNKNOWN_TARGET);
	identify(&s->src, NULL, &p->src);
	reason = resolve(ctx, s, HOOK_FROM_OVERLAY, target);
	if (reason)
		return refuse(ctx, s, HOOK_FROM_OVERLAY, reason);
	if (target->flags & ENDPOINT_HOST && !s->translated)
		return to_stack(ctx, HOOK_FROM_OVERLAY);
	/* Who lives here does not come from there. */
	if (table_lookup(&endpoint_map, &p->src))
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_INVALID_SOURCE);
	return track_and_send(ctx, s, HOOK_FROM_OVERLAY);
}

PROGRAM_BEFORE(from_overlay);

SEC("tcx/ingress")
int from_overlay(struct __sk_buff *ctx)
{
	__u64 flags = config.tunnel_underlay6 ? BPF_F_TUNINFO_IPV6 : 0;
	struct bpf_tunnel_key key = {};
	struct ct_entry *e;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;
	__u8 side;

	hand_over(ctx, &from_overlay_v0);
	if (!scratch)
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	if (bpf_skb_get_tunnel_key(ctx, &key, sizeof(key), flags))
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_NO_TUNNEL_KEY);
	if (key.tunnel_id != config.tunnel_vni)
		return drop(ctx, HOOK_FROM_OVERLAY, DROP_INVALID_VNI);
	linearise_headers(ctx);
	reason = parse_packet(ctx, p);
	if (reason)
		return drop(ctx, HOOK_FROM_OVERLAY, reason);
	if (is_plain(p)) {
		e = ct_established(scratch);
		side = scratch->flow.side & 1;
		if (e && is_elsewhere(&e->way[side]))
			return send_on(ctx, scratch, HOOK_FROM_OVERLAY, &e->way[!side],
				       ct_pass(ctx, scratch, HOOK_FROM_OVERLAY, e));
	}
	return from_overlay_slow(ctx, scratch);
}

PROGRAM_BEFORE(to_overlay);

SEC("tcx/egress")
int to_overlay(struct __sk_buff *ctx)
{
	struct ipcache_entry *remote;
	enum reason reason;
	struct scratch *scratch = scratch_get();
	struct packet *p;

	hand_over(ctx, &to_overlay_v0);
	if (!scratch)
		return drop(ctx, HOOK_TO_OVERLAY, DROP_INVALID_PACKET); /* never: see scratch.h */
	p = &scratch->packet;
	linearise_headers(ctx);
	reason = parse_packet(ctx, p);
	if (reason)
		return drop(ctx, HOOK_TO_OVERLAY, reason);
	if (is_link_multicast(p)) { /* the device has no link to speak to */
		count(ctx, HOOK_TO_OVERLAY, REASON_IGNORED);
		return TC_ACT_SHOT;
	}
	remote = ipcache_lookup(&p->dst);
	if (!remote)
		return drop(ctx, HOOK_TO_OVERLAY, DROP_NO_TUNNEL_ENDPOINT);
	reason = answer_from_host(ctx, scratch, HOOK_TO_OVERLAY);
	if (reason)
		return drop(ctx, HOOK_TO_OVERLAY, reason);
	if (set_tunnel(ctx, remote) || set_overlay_macs(ctx))
		return drop(ctx, HOOK_TO_OVERLAY, DROP_WRITE_ERROR);
	return forwarded(ctx, HOOK_TO_OVERLAY, TC_ACT_UNSPEC);
}

char __license[] SEC("license") = "Dual BSD/GPL";
