/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways out of a program, for a packet that is sound and allowed: to a pod of
 * this node, into the tunnel, or by the node's routing table. A flow remembers
 * its ways (struct ct_way).
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "count.h"
#include "encap.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"
#include "settings.h"

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

/* Send the packet on by a way that is known. */
static __always_inline int leave(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				 const struct ct_way *way)
{
	__u32 ifindex = way->ifindex, mtu = way->mtu;
	__u8 kind = way->kind;

	if (kind == WAY_STACK)
		return to_stack(ctx, hook);
	if (p->ttl <= 1)
		return drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED, ICMP_ERROR_TTL, 0);
	if (packet_size(ctx, p) > mtu)
		return too_big(ctx, p, hook, mtu);
	if (route_in_place(ctx, p, way->dmac, way->smac))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	if (kind == WAY_PEER)
		return forwarded(ctx, hook, bpf_redirect_peer(ifindex, 0));
	return forwarded(ctx, hook, bpf_redirect(ifindex, 0));
}

/* Into the tunnel: to_overlay, which every packet of that device passes, sets its far end. */
static __always_inline void tunnel_way(struct ct_way *way)
{
	int i;

	way->kind = WAY_TUNNEL;
	way->ifindex = config.overlay_ifindex;
	way->mtu = config.overlay_mtu;
	for (i = 0; i < ETH_ALEN; i++)
		way->dmac[i] = way->smac[i] = config.router_mac[i];
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

/* The way that the routing table has to the packet's destination, or the packet's end. */
static __always_inline bool network_way(struct __sk_buff *ctx, struct packet *p, enum hook hook,
					struct ct_way *way, int *verdict)
{
	struct scratch *s = scratch_get();
	struct bpf_fib_lookup *fib;
	int result;

	if (!s || is_unspecified(p, &p->dst)) { /* a default route would take it */
		*verdict = drop(ctx, hook, DROP_UNKNOWN_TARGET);
		return false;
	}
	fib = &s->fib;
	result = lookup_route(ctx, p, fib);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) {
		*verdict = to_nowhere(ctx, p, hook, result, fib);
		return false;
	}
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		*verdict = p->ttl <= 1 ? drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED,
						       ICMP_ERROR_TTL, 0) :
					 to_unresolved(ctx, p, hook, fib);
		return false;
	}
	way->kind = WAY_NETWORK;
	way->ifindex = fib->ifindex;
	way->mtu = fib->mtu_result;
	__builtin_memcpy(way->dmac, fib->dmac, ETH_ALEN);
	__builtin_memcpy(way->smac, fib->smac, ETH_ALEN);
	return true;
}

/* Find out how a packet leaves that is for no end on this node, and send it. */
static __noinline int find_and_leave(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				     struct ct_way *way)
{
	struct ct_way found = {};
	int verdict;

	if (config.tunnel && ipcache_lookup(&p->dst))
		tunnel_way(&found);
	else if (!network_way(ctx, p, hook, &found, &verdict))
		return verdict;
	found.found_at = jiffies_now();
	*way = found;
	return leave(ctx, p, hook, way);
}

/*
 * Send the packet to where its flow goes. way is the entry's, or the caller's
 * own where there is none; what is found out is left there. Routes, neighbours
 * and tunnels change without a word, so a way by them is good for a second.
 */
static __always_inline int send_on(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				   struct ct_way *way)
{
	if (way->kind != WAY_UNKNOWN &&
	    (way->kind < WAY_NETWORK || jiffies_now() - way->found_at < config.way_jiffies))
		return leave(ctx, p, hook, way);
	return find_and_leave(ctx, p, hook, way);
}

/*
 * A packet from outside for an address that no endpoint has. Where the node's
 * pods get their addresses from, the routing table says what becomes of it, so
 * that a default route does not carry it back. Returns false for all others.
 */
static __always_inline bool is_vacant(struct __sk_buff *ctx, struct packet *p, enum hook hook,
				      int *verdict)
{
	struct scratch *s = scratch_get();
	int result;

	if (!s)
		return false;
	result = lookup_route(ctx, p, &s->fib);
	if (result != BPF_FIB_LKUP_RET_BLACKHOLE && result != BPF_FIB_LKUP_RET_UNREACHABLE)
		return false;
	*verdict = to_nowhere(ctx, p, hook, result, &s->fib);
	return true;
}
