/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a flow goes on: by its established entry alone, or after it was looked for and judged. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "conntrack.h"
#include "twin.h"

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
	/* It began again: the first answer is more than this path can do. */
	if (!(state & CT_REPLIED))
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
