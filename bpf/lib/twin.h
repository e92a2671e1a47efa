/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two entries of a flow that is translated: what one learns, the other is told. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "conntrack.h"

/* The rest of a flow's beginning whose entry moved before its translation was written. */
static __always_inline bool ct_begin_moved(const struct ct_key *key, __u64 state,
					   const struct ct_nat *nat)
{
	struct ct_entry *e;

	e = ct_lookup(key) ?: ct_lookup_new(key);
	if (!e || ct_state(e) != state)
		return false;
	e->nat = *nat;
	return __sync_val_compare_and_swap(&e->state, state, state | CT_NAT) == state;
}

/* Begin a flow in an entry that an earlier one with the same key left. False: it is in use. */
static __always_inline bool ct_begin_again(struct ct_entry *e, const struct scratch *s,
					   const struct flow *f, __u32 flags,
					   const struct ct_nat *nat)
{
	__u64 old = ct_state(e), state = (__u64)jiffies_now() << 32 | (flags & ~CT_NAT);

	if ((__u32)old & CT_TERMINAL || __sync_val_compare_and_swap(&e->state, old, state) != old)
		return false;
	ct_describe(e, s, f->side);
	if (!(flags & CT_NAT))
		return true;
	e->nat = *nat;
	if (__sync_val_compare_and_swap(&e->state, state, state | CT_NAT) == state)
		return true;
	return ct_begin_moved(&f->key, state, nat);
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
 * address that was asked; left is what an earlier flow with that key left, or NULL.
 */
static __always_inline void ct_begin_asked(struct scratch *s, const struct ct_entry *e,
					   struct ct_entry *left)
{
	void *table = table_in(&ct_new_map, TABLE_CURRENT);
	__u32 flags = ct_state(e) & (CT_SHARED | CT_SERVICE | CT_FROM_HOST | CT_AUDITED);
	struct ct_nat *nat = &s->entry.nat;
	__u8 side = s->twin.side & 1;

	if (!table)
		return;
	flags |= CT_NAT | (side ? 0 : CT_ORIGIN | CT_NAT_SIDE);
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.state = (__u64)jiffies_now() << 32 | flags;
	ct_turn_back(nat, &s->packet, &e->nat);
	if (left) {
		ct_begin_again(left, s, &s->twin, flags, nat);
		return;
	}
	ct_describe(&s->entry, s, side);
	table_count_insert(TABLE_CT_NEW,
			   bpf_map_update_elem(table, &s->twin.key, &s->entry, BPF_NOEXIST));
}

/* Whether what has the key of e's twin is of the same flow: both name the same backend. */
static __always_inline bool ct_are_twins(const struct ct_entry *e, const struct ct_entry *twin)
{
	return ct_state(twin) & CT_NAT && twin->nat.backend == e->nat.backend;
}

/*
 * Whether an embryonic entry with the key of e's twin is no more than the rest of another flow:
 * one that ended, or that began before the question to which e is the answer was asked.
 */
static __always_inline bool ct_is_left(const struct settings *settings, const struct ct_entry *twin,
				       const struct ct_entry *e, __u8 proto)
{
	__u64 state = ct_state(twin);

	if (ct_has_ended(settings, twin, proto, state))
		return true;
	return !ct_are_twins(e, twin) && (__s32)((ct_state(e) >> 32) - (state >> 32)) > 0;
}

/*
 * Let the twin of a translated flow's entry know that the flow lives, and how far it
 * has come. first: the packet is the first answer.
 */
__noinline int ct_tell_twin(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
			    struct ct_entry *e, bool first)
{
	const struct settings *settings = settings_get();
	const struct ct_nat *nat;
	bool embryonic = false;
	struct ct_entry *twin;
	__u64 state;
	__u32 flags;

	if (!s || !e || !settings)
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
	if (first && embryonic && (!twin || ct_is_left(settings, twin, e, s->packet.l4_proto))) {
		ct_begin_asked(s, e, twin);
		return 0;
	}
	if (!twin || !ct_are_twins(e, twin))
		return 0; /* another flow's: this one's was lost */
	state = ct_state(twin);
	ct_set_flags(twin, &s->twin.key, state, (__u32)state | flags);
	ct_touch(twin);
	if (embryonic && ((__u32)state | flags) & CT_ASSURED)
		ct_promote(ctx, s, hook, &s->twin.key, twin);
	return 0;
}
