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
#include "nat.h"
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

/* Translated, where nat says so, to the node's stack. */
static __always_inline int leave_to_stack(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					  const struct ct_nat *nat)
{
	if (nat && translate(ctx, s, nat))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	return to_stack(ctx, hook);
}

/* Larger than the next link takes: the stack cuts it up, or the sender must know. */
static __always_inline int too_big(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				   __u32 mtu, const struct ct_nat *nat)
{
	if (!s->packet.dont_fragment)
		return leave_to_stack(ctx, s, hook, nat);
	return drop_and_tell(ctx, &s->packet, hook, DROP_FRAG_NEEDED, ICMP_ERROR_TOO_BIG, mtu);
}

/*
 * Send the packet on by a way that is known. It is translated last: errors speak
 * of the packet as its sender made it.
 */
static __always_inline int leave(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				 const struct ct_way *way, const struct ct_nat *nat)
{
	struct packet *p = &s->packet;
	__u32 ifindex = way->ifindex, mtu = way->mtu;
	__u8 kind = way->kind;

	if (kind == WAY_STACK)
		return leave_to_stack(ctx, s, hook, nat);
	if (p->ttl <= 1)
		return drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED, ICMP_ERROR_TTL, 0);
	if (packet_size(ctx, p) > mtu)
		return too_big(ctx, s, hook, mtu, nat);
	if (nat && translate(ctx, s, nat))
		return drop(ctx, hook, DROP_WRITE_ERROR);
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

/* The routing table's way between two addresses, for a packet like p. */
static __always_inline int lookup_route(struct __sk_buff *ctx, const struct packet *p,
					const union addr *src, const union addr *dst,
					struct bpf_fib_lookup *fib)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ctx->ifindex;
	fib->l4_protocol = p->l4_proto;
	fib->tot_len = packet_size(ctx, p);
	if (p->version == 4) {
		fib->family = AF_INET;
		fib->tos = p->tos;
		fib->ipv4_src = src->w[3];
		fib->ipv4_dst = dst->w[3];
	} else {
		fib->family = AF_INET6;
		fib->flowinfo = bpf_htonl((__u32)p->tos << 20);
		__builtin_memcpy(fib->ipv6_src, src, sizeof(*src));
		__builtin_memcpy(fib->ipv6_dst, dst, sizeof(*dst));
	}
	return bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
}

/* The route is known but not the next hop's MAC: let the kernel find it out. */
static __always_inline int to_unresolved(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					 const struct bpf_fib_lookup *fib, const struct ct_nat *nat)
{
	struct bpf_redir_neigh next = {};

	if ((nat && translate(ctx, s, nat)) || decrement_ttl(ctx, &s->packet))
		return drop(ctx, hook, DROP_WRITE_ERROR);
	next.nh_family = fib->family;
	__builtin_memcpy(next.ipv6_nh, fib->ipv6_dst, sizeof(next.ipv6_nh));
	return forwarded(ctx, hook, bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0));
}

/* What to do where the routing table has no way on. */
static __always_inline int to_nowhere(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				      int result, const struct bpf_fib_lookup *fib,
				      const struct ct_nat *nat)
{
	struct packet *p = &s->packet;

	switch (result) {
	case BPF_FIB_LKUP_RET_BLACKHOLE: /* this node's pod CIDR, nobody there */
		return drop(ctx, hook, DROP_STALE_TARGET);
	case BPF_FIB_LKUP_RET_UNREACHABLE:
		return drop_and_tell(ctx, p, hook, DROP_HOST_UNREACHABLE, ICMP_ERROR_HOST, 0);
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return too_big(ctx, s, hook, fib->mtu_result, nat);
	case BPF_FIB_LKUP_RET_NOT_FWDED: /* an address of the node itself, or no route */
	case BPF_FIB_LKUP_RET_UNSUPP_LWT:
		return leave_to_stack(ctx, s, hook, nat);
	default:
		return drop_and_tell(ctx, p, hook, DROP_FIB_FAILED, ICMP_ERROR_ROUTE, 0);
	}
}

/* The way that the routing table has to the packet's destination, or the packet's end. */
static __always_inline bool network_way(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					struct ct_way *way, const struct ct_nat *nat, int *verdict)
{
	struct packet *p = &s->packet;
	const union addr *src = nat ? &nat->addr[0] : &p->src, *dst = nat ? &nat->addr[1] : &p->dst;
	struct bpf_fib_lookup *fib = &s->fib;
	int result;

	if (is_unspecified(p, dst)) { /* a default route would take it */
		*verdict = drop(ctx, hook, DROP_UNKNOWN_TARGET);
		return false;
	}
	result = lookup_route(ctx, p, src, dst, fib);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) {
		*verdict = to_nowhere(ctx, s, hook, result, fib, nat);
		return false;
	}
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		*verdict = p->ttl <= 1 ? drop_and_tell(ctx, p, hook, DROP_TTL_EXCEEDED,
						       ICMP_ERROR_TTL, 0) :
					 to_unresolved(ctx, s, hook, fib, nat);
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
__noinline int find_and_leave(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
			      struct ct_way *way, const struct ct_nat *nat)
{
	struct ct_way found = {};
	int verdict;

	if (!s || !way)
		return drop(ctx, hook, DROP_INVALID_PACKET);
	if (config.tunnel && ipcache_lookup(nat ? &nat->addr[1] : &s->packet.dst))
		tunnel_way(&found);
	else if (!network_way(ctx, s, hook, &found, nat, &verdict))
		return verdict;
	found.found_at = jiffies_now();
	*way = found;
	return leave(ctx, s, hook, way, nat);
}

/*
 * Send the packet to where its flow goes, translated as nat says, if not NULL.
 * way is the entry's, or the caller's own where there is none; what is found out
 * is left there. Routes, neighbours and tunnels change without a word, so a way
 * by them is good for a second.
 */
static __always_inline int send_on(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				   struct ct_way *way, const struct ct_nat *nat)
{
	if (way->kind != WAY_UNKNOWN &&
	    (way->kind < WAY_NETWORK || jiffies_now() - way->found_at < config.way_jiffies))
		return leave(ctx, s, hook, way, nat);
	return find_and_leave(ctx, s, hook, way, nat);
}

/*
 * A packet from outside for an address that no endpoint has. Where the node's
 * pods get their addresses from, the routing table says what becomes of it, so
 * that a default route does not carry it back. Returns false for all others.
 */
static __always_inline bool is_vacant(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				      int *verdict)
{
	struct packet *p = &s->packet;
	int result = lookup_route(ctx, p, &p->src, &p->dst, &s->fib);

	if (result != BPF_FIB_LKUP_RET_BLACKHOLE && result != BPF_FIB_LKUP_RET_UNREACHABLE)
		return false;
	*verdict = to_nowhere(ctx, s, hook, result, &s->fib, NULL);
	return true;
}
