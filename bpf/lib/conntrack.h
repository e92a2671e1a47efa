/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows. One entry serves both directions of a flow, and both policies of one
 * between two pods of the node.
 *
 * A flow begins in the embryonic table and moves to its protocol's table when
 * its origin goes on after an answer, which nobody can who sends from somebody
 * else's address. Entries of that table are never evicted, and when it is full
 * flows stay embryonic and work as before. Rules that let tables move while
 * packets write to them: entries are inserted only where there is none, state
 * changes by compare-and-swap only, and established entries are deleted by the
 * collector alone, which marks them dead first.
 *
 * A flow that is translated has two entries, twins (struct ct_nat): each
 * direction meets one of them and needs no other. What one learns about the flow
 * it tells the other, at once when its state changes and else now and then. Where
 * the source stays as it is, the first answer makes the one that the origin meets:
 * until then the same backend is chosen again for each of its packets.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "count.h"
#include "entry.h"
#include "flow.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"
#include "settings.h"

/*
 * What ct_set_flags() does when another CPU was faster, or the entry moved: the
 * flags go to where the flow is now. One that ended, or began again, stays as it is.
 */
__noinline int ct_set_flags_again(struct ct_entry *e, const struct ct_key *key, __u64 state,
				  __u32 flags)
{
	__u64 now;
	int tries;

	if (!e || !key)
		return 0;
	for (tries = 0; tries < 4; tries++) {
		now = ct_state(e);
		if (now & CT_MOVED) {
			e = ct_lookup(key) ?: ct_lookup_new(key);
			if (!e)
				return 0;
			now = ct_state(e);
		}
		if (now >> 32 != state >> 32 || now & CT_TERMINAL || !(flags & ~(__u32)now) ||
		    __sync_val_compare_and_swap(&e->state, now, now | flags) == now)
			return 0;
	}
	return 0;
}

/* Add flags to what the state of key's entry was a moment ago. */
static __always_inline void ct_set_flags(struct ct_entry *e, const struct ct_key *key, __u64 state,
					 __u32 flags)
{
	if (flags & ~(__u32)state &&
	    ((__u32)state & CT_TERMINAL ||
	     __sync_val_compare_and_swap(&e->state, state, state | flags) != state))
		ct_set_flags_again(e, key, state, flags);
}

static __always_inline void ct_touch(struct ct_entry *e)
{
	__u32 now = jiffies_now();

	if (e->last != now) /* leave the cache line to others */
		e->last = now;
}

/* Does the packet begin a connection? */
static __always_inline bool is_opening(const struct packet *p)
{
	return p->l4_proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Whether a flow that is established is all there is to know about such a packet. */
static __always_inline bool is_plain(const struct packet *p)
{
	if (p->fragment || is_opening(p))
		return false;
	if (p->l4_proto != IPPROTO_ICMP && p->l4_proto != IPPROTO_ICMPV6)
		return true;
	return is_echo_request(p->l4_proto, p->icmp_type) ||
	       is_echo_reply(p->l4_proto, p->icmp_type);
}

/* The flags that a packet adds to a flow that has these. */
static __always_inline __u32 ct_progress(const struct packet *p, __u32 flags, __u8 side)
{
	bool from_origin = (flags & CT_ORIGIN) == side;
	__u32 add = 0;

	if (p->l4_proto == IPPROTO_TCP && !p->later_fragment) {
		if (!(p->tcp_flags & TCP_SYN))
			add |= CT_NON_SYN;
		if (p->tcp_flags & TCP_FIN)
			add |= from_origin ? CT_FIN_ORIGIN : CT_FIN_REPLY;
		if (p->tcp_flags & TCP_RST)
			return add | CT_RESET; /* an answer, but no conversation */
		if (from_origin && p->tcp_flags & TCP_SYN)
			return add; /* it asks again: it did not hear the answer */
	}
	if (!from_origin)
		add |= CT_REPLIED;
	else if (flags & CT_REPLIED)
		add |= CT_ASSURED;
	return add;
}

/* What twins share of their flags. */
#define CT_SHARED (CT_REPLIED | CT_ASSURED | CT_NON_SYN | CT_FIN_ORIGIN | CT_FIN_REPLY | CT_RESET)

/*
 * Move an embryonic flow to its protocol's table. Where there is no room, or
 * another CPU was faster, the entry that is there to use comes back.
 */
static __always_inline struct ct_entry *ct_promote(struct __sk_buff *ctx, struct scratch *s,
						   enum hook hook, struct ct_key *key,
						   struct ct_entry *e)
{
	struct ct_entry *there;
	void *table, *embryonic, *old;
	__u64 state;
	long err;

	table = key->proto == IPPROTO_TCP ? table_in(&ct_tcp_map, TABLE_CURRENT) :
					    table_in(&ct_any_map, TABLE_CURRENT);
	embryonic = table_in(&ct_new_map, TABLE_CURRENT);
	if (!table || !embryonic)
		return e;
	s->entry = *e;
	if (s->entry.state & CT_TERMINAL)
		return e; /* it moves at this moment */
	err = bpf_map_update_elem(table, key, &s->entry, BPF_NOEXIST);
	table_count_insert(key->proto == IPPROTO_TCP ? TABLE_CT_TCP : TABLE_CT_ANY, err);
	if (err && err != -EEXIST) {
		count(ctx, hook, REASON_CT_FULL);
		return e;
	}
	there = bpf_map_lookup_elem(table, key);
	if (!there || (__u32)ct_state(there) & CT_TERMINAL)
		return e; /* a corpse on its way out: try again with the next packet */
	/* Of an old table nothing is deleted: an entry that is dead does not move. */
	old = table_in(&ct_new_map, TABLE_OLD);
	if (old) {
		struct ct_entry *before = bpf_map_lookup_elem(old, key);

		if (before)
			__sync_fetch_and_or(&before->state, (__u64)CT_DEAD);
	}
	state = ct_state(e);
	if (!(state & CT_TERMINAL))
		__sync_val_compare_and_swap(&e->state, state, state | CT_DEAD);
	if (!bpf_map_delete_elem(embryonic, key))
		table_count_moved_on(TABLE_CT_NEW);
	return there;
}

static __always_inline void pod_way(struct ct_way *way, const struct endpoint *ep)
{
	int i;

	way->ifindex = ep->ifindex;
	way->mtu = config.pod_mtu;
	/* The short way leaves out the host device, and with it its queue. */
	way->kind = ep->flags & ENDPOINT_SHAPED ? WAY_DEVICE : WAY_PEER;
	__builtin_memcpy(way->dmac, ep->mac, sizeof(way->dmac));
	for (i = 0; i < (int)sizeof(way->smac); i++)
		way->smac[i] = config.router_mac[i];
}

/* How to reach an end, as far as that follows from who it is. */
static __always_inline void end_way(struct ct_way *way, const struct end *end)
{
	way->kind = WAY_UNKNOWN;
	if (is_pod(end))
		pod_way(way, &end->ep);
	else if (end->identity == IDENTITY_HOST)
		way->kind = WAY_STACK;
}

/*
 * Everything about a flow but its state, from its two real ends; side is the
 * source's in the entry's key.
 */
static __always_inline void ct_describe(struct ct_entry *e, const struct scratch *s, __u8 side)
{
	side &= 1;
	e->identity[side] = s->src.identity;
	e->identity[!side] = s->dst.identity;
	end_way(&e->way[side], &s->src);
	end_way(&e->way[!side], &s->dst);
	e->last = jiffies_now();
	e->epoch = s->epoch; /* last: who sees it may use the rest */
}
