/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a conntrack entry says: its state, how long it lives, whose it is. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"
#include "settings.h"

#define CT_TERMINAL (CT_DEAD | CT_MOVED)
#define CT_FIN_BOTH (CT_FIN_ORIGIN | CT_FIN_REPLY)

static __always_inline bool addr_equal(const union addr *a, const union addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline __u64 ct_state(const struct ct_entry *e)
{
	return *(volatile __u64 *)&e->state;
}

static __always_inline bool ct_closing(__u32 flags)
{
	return flags & CT_RESET || (flags & CT_FIN_BOTH) == CT_FIN_BOTH;
}

static __always_inline __u32 ct_timeout(const struct settings *settings, __u8 proto, __u32 flags)
{
	if (proto != IPPROTO_TCP)
		return settings
			->timeout[flags & CT_SERVICE ? CT_TIMEOUT_SERVICE_ANY : CT_TIMEOUT_ANY];
	if (ct_closing(flags))
		return settings->timeout[CT_TIMEOUT_TCP_FIN];
	if (!(flags & CT_NON_SYN))
		return settings->timeout[CT_TIMEOUT_TCP_SYN];
	return settings->timeout[flags & CT_SERVICE ? CT_TIMEOUT_SERVICE_TCP : CT_TIMEOUT_TCP];
}

/*
 * Mark an entry as moved, and copy it as it was then. Until a copy is in the
 * current table no program has another one, so whichever copy comes first is as
 * good as any. What a program writes besides the state at this moment may be
 * lost: the epoch is read first, so that the flow is judged again then.
 */
static __always_inline __u64 ct_take(struct ct_entry *to, struct ct_entry *e)
{
	__u32 epoch = *(volatile __u32 *)&e->epoch;
	__u64 state = __sync_fetch_and_or(&e->state, (__u64)CT_MOVED); /* a barrier too */

	*to = *e;
	to->epoch = epoch;
	to->state = state & ~(__u64)CT_MOVED;
	return state;
}

/*
 * Make an entry of this layout of one of another, which has all that the segments
 * say. What it does not have is zero.
 */
static __always_inline void ct_convert(struct ct_entry *to, const void *from,
				       const volatile struct ct_segment *segments)
{
	int i;

	__builtin_memset(to, 0, sizeof(*to));
#pragma unroll
	for (i = 0; i < CT_SEGMENTS; i++) {
		__u32 at = segments[i].to, len = segments[i].len;

		if (len && at < sizeof(*to) && len <= sizeof(*to) - at)
			bpf_probe_read_kernel((void *)to + at, len, from + segments[i].from);
	}
}

/* A copy of an entry that was deleted while it was made is none of a flow. */
static __always_inline void ct_end_too(void *current, const struct ct_key *key,
				       const struct ct_entry *e)
{
	struct ct_entry *there;

	if (!(ct_state(e) & CT_DEAD))
		return;
	there = bpf_map_lookup_elem(current, key);
	if (there)
		__sync_fetch_and_or(&there->state, (__u64)CT_DEAD);
}

/*
 * Take back the mark of an entry that has no room in the current table: it stays in
 * use. Returns the entry to use: another CPU may have found room just now.
 */
static __always_inline struct ct_entry *ct_leave(void *current, const struct ct_key *key,
						 struct ct_entry *e)
{
	struct ct_entry *there;

	__sync_fetch_and_and(&e->state, ~(__u64)CT_MOVED);
	there = bpf_map_lookup_elem(current, key);
	if (!there)
		return e;
	__sync_fetch_and_or(&e->state, (__u64)CT_MOVED);
	return there;
}

/* Whether the entry still stands for a flow. */
static __always_inline bool ct_alive(const struct settings *settings, const struct ct_entry *e,
				     __u8 proto, __u32 flags)
{
	return !(flags & CT_TERMINAL) &&
	       jiffies_since(settings, e->last) <= ct_timeout(settings, proto, flags);
}

/* Whether the flow of the entry is over, so that another one may begin in it. */
static __always_inline bool ct_has_ended(const struct settings *settings, const struct ct_entry *e,
					 __u8 proto, __u32 flags)
{
	return ct_closing(flags) || !ct_alive(settings, e, proto, flags);
}
