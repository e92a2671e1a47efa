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

/* What packets of the other direction get, of the same service: the ends of this one. */
static __always_inline void ct_turn_back(struct ct_nat *nat, const struct packet *p,
					 const struct ct_nat *same)
{
	nat->addr[0] = p->dst;
	nat->addr[1] = p->src;
	nat->port[0] = p->dport;
	nat->port[1] = p->sport;
	nat->service = same->service;
	nat->backend = same->backend;
	nat->synced = jiffies_now();
}

/*
 * Make the entry that the origin of a translated flow meets, at the first answer: e is
 * the one that the answer meets, s->twin the key of the other and the side of the
 * address that was asked.
 */
static __always_inline void ct_begin_asked(struct scratch *s, const struct ct_entry *e)
{
	void *table = table_in(&ct_new_map, TABLE_CURRENT);
	__u32 flags = ct_state(e) & (CT_SHARED | CT_SERVICE | CT_FROM_HOST | CT_AUDITED);
	__u8 side = s->twin.side & 1;

	if (!table)
		return;
	flags |= CT_NAT | (side ? 0 : CT_ORIGIN | CT_NAT_SIDE);
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.state = (__u64)jiffies_now() << 32 | flags;
	ct_turn_back(&s->entry.nat, &s->packet, &e->nat);
	ct_describe(&s->entry, s, side);
	table_count_insert(TABLE_CT_NEW,
			   bpf_map_update_elem(table, &s->twin.key, &s->entry, BPF_NOEXIST));
}

/*
 * Let the twin of a translated flow's entry know that the flow lives, and how far it
 * has come. first: the packet is the first answer.
 */
__noinline int ct_tell_twin(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
			    struct ct_entry *e, bool first)
{
	const struct ct_nat *nat;
	bool embryonic = false;
	struct ct_entry *twin;
	__u64 state;
	__u32 flags;

	if (!s || !e)
		return 0;
	nat = &e->nat;
	flags = (__u32)ct_state(e) & CT_SHARED;
	e->nat.synced = jiffies_now();
	flow_between(&s->twin, &nat->addr[0], &nat->addr[1], nat->port[0], nat->port[1],
		     s->packet.l4_proto);
	twin = ct_lookup(&s->twin.key);
	if (!twin || (__u32)ct_state(twin) & CT_TERMINAL) {
		twin = ct_lookup_new(&s->twin.key);
		embryonic = true;
	}
	if (!twin && first)
		ct_begin_asked(s, e);
	if (!twin)
		return 0;
	state = ct_state(twin);
	if (!(state & CT_NAT))
		return 0; /* another flow's: this one's was lost */
	ct_set_flags(twin, &s->twin.key, state, (__u32)state | flags);
	ct_touch(twin);
	if (embryonic && ((__u32)state | flags) & CT_ASSURED)
		ct_promote(ctx, s, hook, &s->twin.key, twin);
	return 0;
}

/*
 * The fast path: the entry of an established flow that was judged by what is in
 * force now. One lookup, however many policies and services there are. NULL: ask
 * ct_settle().
 */
static __always_inline struct ct_entry *ct_established(struct scratch *s)
{
	const struct settings *settings = settings_get();
	struct ct_entry *e;
	__u64 state;

	flow_of(&s->packet, &s->flow);
	e = ct_lookup(&s->flow.key);
	s->absent = !e;
	if (!e || !settings)
		return NULL;
	state = ct_state(e);
	if (e->epoch != settings->epoch || !ct_alive(settings, e, s->packet.l4_proto, state))
		return NULL;
	if (state & CT_NAT && nat_side(state) != s->flow.side)
		return NULL;
	return e;
}

/*
 * What the fast path writes, once the program knows that the packet may pass.
 * Returns how the packet is to be translated, or NULL.
 */
static __always_inline const struct ct_nat *ct_pass(struct __sk_buff *ctx, struct scratch *s,
						    enum hook hook, struct ct_entry *e)
{
	__u64 state = ct_state(e);
	__u32 add = ct_progress(&s->packet, state, s->flow.side);

	ct_set_flags(e, &s->flow.key, state, add);
	ct_touch(e);
	if (!(state & CT_NAT))
		return NULL;
	s->related = false;
	if (add & ~(__u32)state || jiffies_now() - e->nat.synced > config.sync_jiffies)
		ct_tell_twin(ctx, s, hook, e, false);
	return &e->nat;
}

/*
 * Judge the packet's flow by what is in force now. Returns its flags:
 * CT_AUDITED or none, or CT_DEAD where it is denied.
 */
static __always_inline __u32 ct_judge(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
				      bool from_origin)
{
	int verdict = policy_judge(s, from_origin);

	if (verdict == POLICY_DENY)
		return CT_DEAD;
	if (verdict == POLICY_ALLOW)
		return 0;
	count(ctx, hook, REASON_AUDITED);
	return CT_AUDITED;
}

enum ct_outcome {
	CT_DENIED,
	CT_STAYED, /* where it was */
	CT_PROMOTED, /* to its protocol's table */
};

/* A packet of a flow that is known. Not inlined, so that the verifier walks it once. */
__noinline int ct_continue(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
			   struct ct_entry *e, bool embryonic)
{
	enum ct_outcome outcome = CT_STAYED;
	__u32 flags, judged = 0;
	struct ct_entry *there;
	__u64 state;

	if (!s || !e)
		return CT_DENIED;
	flags = state = ct_state(e);
	if (e->epoch != s->epoch) {
		if (!(flags & CT_FROM_HOST))
			judged = ct_judge(ctx, s, hook, (flags & CT_ORIGIN) == s->flow.side);
		if (judged & CT_DEAD)
			return CT_DENIED;
		ct_describe(e, s, s->flow.side);
		if ((flags ^ judged) & CT_AUDITED && !(flags & CT_TERMINAL)) {
			flags ^= CT_AUDITED;
			__sync_val_compare_and_swap(&e->state, state, state ^ CT_AUDITED);
			state ^= CT_AUDITED;
		}
	}
	flags |= ct_progress(&s->packet, flags, s->flow.side);
	ct_set_flags(e, &s->flow.key, state, flags);
	ct_touch(e);
	if (embryonic && flags & CT_ASSURED) {
		there = ct_promote(ctx, s, hook, &s->flow.key, e);
		if (there != e)
			outcome = CT_PROMOTED;
		e = there;
	}
	if (flags & CT_NAT)
		ct_tell_twin(ctx, s, hook, e,
			     flags & ~(__u32)state & CT_REPLIED && nat_side(flags) == s->flow.side);
	return outcome;
}

/* Whether the packet belongs to what the entry says, or begins something of its own. */
static __always_inline bool ct_continues(const struct settings *settings, const struct ct_entry *e,
					 const struct scratch *s)
{
	__u32 flags = ct_state(e);

	if (!ct_alive(settings, e, s->packet.l4_proto, flags))
		return false;
	/* A connection that begins in the other direction is another one. */
	return !is_opening(&s->packet) ||
	       ((flags & CT_ORIGIN) == s->flow.side && !ct_closing(flags));
}

/* The entry with the packet's key, in whatever state, and in which table it is. */
static __always_inline struct ct_entry *ct_known(const struct scratch *s, bool *embryonic)
{
	struct ct_entry *e = s->absent ? NULL : ct_lookup(&s->flow.key);

	*embryonic = !e || (__u32)ct_state(e) & CT_TERMINAL;
	return *embryonic ? ct_lookup_new(&s->flow.key) : e;
}
