/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways out of a program, for a packet that is sound and allowed: to a pod of
 * this node, into the tunnel, or by the node's routing table.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "count.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"

#define AF_INET 2
#define AF_INET6 10

static __always_inline int forwarded(struct __sk_buff *ctx, enum hook hook, int verdict)
{
	count(ctx, hook, REASON_FORWARDED);
	return verdict;
}

/* Larger than the next link takes: the stack cuts it up, or the sender must know. */
static __always_inline int too_big(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				   __u32 mtu)
{
	if (!p->dont_fragment)
		return to_stack(ctx, hook);
	return drop_and_tell(ctx, p, hook, DROP_FRAG_NEEDED, ICMP_ERROR_TOO_BIG, mtu);
}

static __always_inline int to_local_pod(struct __sk_buff *ctx, struct packet *p, enum hook hook,
					const struct endpoint *ep)
{
	if (p->ttl <= 1)
		return drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED, ICMP_ERROR_TTL, 0);
	if (packet_size(ctx, p) > config.pod_mtu)
		return too_big(ctx, p, hook, config.pod_mtu);
	if (route_in_place(ctx, p, ep->mac, config.router_mac))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	/* The short way leaves out the host device, and with it its queue. */
	if (ep->flags & ENDPOINT_SHAPED)
		return forwarded(ctx, hook, bpf_redirect(ep->ifindex, 0));
	return forwarded(ctx, hook, bpf_redirect_peer(ep->ifindex, 0));
}

/* to_overlay, which every packet of that device passes, sets the tunnel's far end. */
static __always_inline int to_tunnel(struct __sk_buff *ctx, struct packet *p, enum hook hook)
{
	if (p->ttl <= 1)
		return drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED, ICMP_ERROR_TTL, 0);
	if (packet_size(ctx, p) > config.overlay_mtu)
		return too_big(ctx, p, hook, config.overlay_mtu);
	if (route_in_place(ctx, p, config.router_mac, config.router_mac))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	return forwarded(ctx, hook, bpf_redirect(config.overlay_ifindex, 0));
}

static __always_inline int lookup_route(struct __sk_buff *ctx, const struct packet *p,
					struct bpf_fib_lookup *fib)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ctx->ifindex;
	fib->l4_protocol = p->l4_proto;
	fib->tot_len = packet_size(ctx, p);
	if (p->version == 4) {
		fib->family = AF_INET;
		fib->tos = p->tos;
		fib->ipv4_src = p->src.w[3];
		fib->ipv4_dst = p->dst.w[3];
	} else {
		fib->family = AF_INET6;
		fib->flowinfo = bpf_htonl((__u32)p->tos << 20);
		__builtin_memcpy(fib->ipv6_src, &p->src, sizeof(p->src));
		__builtin_memcpy(fib->ipv6_dst, &p->dst, sizeof(p->dst));
	}
	return bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
}

/* The route is known but not the next hop's MAC: let the kernel find it out. */
static __always_inline int to_unresolved(struct __sk_buff *ctx, const struct packet *p,
					 enum hook hook, const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh next = {};

	if (decrement_ttl(ctx, p))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	next.nh_family = fib->family;
	__builtin_memcpy(next.ipv6_nh, fib->ipv6_dst, sizeof(next.ipv6_nh));
	return forwarded(ctx, hook, bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0));
}

/* What to do where the routing table has no way on. */
static __always_inline int to_nowhere(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				      int result, const struct bpf_fib_lookup *fib)
{
	switch (result) {
	case BPF_FIB_LKUP_RET_BLACKHOLE: /* this node's pod CIDR, nobody there */
		return drop(ctx, hook, DROP_STALE_TARGET);
	case BPF_FIB_LKUP_RET_UNREACHABLE:
		return drop_and_tell(ctx, p, hook, DROP_HOST_UNREACHABLE, ICMP_ERROR_HOST, 0);
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return too_big(ctx, p, hook, fib->mtu_result);
	case BPF_FIB_LKUP_RET_NOT_FWDED: /* an address of the node itself, or no route */
	case BPF_FIB_LKUP_RET_UNSUPP_LWT:
		return to_stack(ctx, hook);
	default:
		return drop_and_tell(ctx, p, hook, DROP_FIB_FAILED, ICMP_ERROR_ROUTE, 0);
	}
}

static __always_inline int to_network(struct __sk_buff *ctx, struct packet *p, enum hook hook)
{
	struct bpf_fib_lookup fib;
	int result;

	if (is_unspecified(p, &p->dst)) /* a default route would take it */
		return drop(ctx, hook, DROP_UNKNOWN_TARGET);
	result = lookup_route(ctx, p, &fib);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return to_nowhere(ctx, p, hook, result, &fib);
	if (p->ttl <= 1)
		return drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED, ICMP_ERROR_TTL, 0);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return to_unresolved(ctx, p, hook, &fib);
	if (route_in_place(ctx, p, fib.dmac, fib.smac))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	return forwarded(ctx, hook, bpf_redirect(fib.ifindex, 0));
}

/*
 * A packet from outside for an address that no endpoint has. Where the node's
 * pods get their addresses from, the routing table says what becomes of it, so
 * that a default route does not carry it back. Returns false for all others.
 */
static __always_inline bool is_vacant(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				      int *verdict)
{
	struct bpf_fib_lookup fib;
	int result = lookup_route(ctx, p, &fib);

	if (result != BPF_FIB_LKUP_RET_BLACKHOLE && result != BPF_FIB_LKUP_RET_UNREACHABLE)
		return false;
	*verdict = to_nowhere(ctx, p, hook, result, &fib);
	return true;
}
