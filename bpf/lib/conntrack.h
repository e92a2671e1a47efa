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
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "count.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"
#include "settings.h"

#define EEXIST 17
#define CT_TERMINAL (CT_DEAD | CT_MOVED)
#define CT_FIN_BOTH (CT_FIN_ORIGIN | CT_FIN_REPLY)

/* Any total order will do; IPv4 differs in the last word, so that comes first. */
static __always_inline bool addr_less(const union addr *a, const union addr *b)
{
	if (a->w[3] != b->w[3])
		return a->w[3] < b->w[3];
	if (a->w[2] != b->w[2])
		return a->w[2] < b->w[2];
	if (a->w[1] != b->w[1])
		return a->w[1] < b->w[1];
	return a->w[0] < b->w[0];
}

static __always_inline bool addr_equal(const union addr *a, const union addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline void flow_of(const struct packet *p, struct flow *f)
{
	f->key.proto = p->l4_proto;
	__builtin_memset(f->key.pad, 0, sizeof(f->key.pad));
	if (addr_less(&p->src, &p->dst) || (addr_equal(&p->src, &p->dst) && p->sport < p->dport)) {
		f->side = 0;
		f->key.addr[0] = p->src;
		f->key.addr[1] = p->dst;
		f->key.port[0] = p->sport;
		f->key.port[1] = p->dport;
	} else {
		f->side = 1;
		f->key.addr[0] = p->dst;
		f->key.addr[1] = p->src;
		f->key.port[0] = p->dport;
		f->key.port[1] = p->sport;
	}
}

static __always_inline bool ct_closing(__u32 flags)
{
	return flags & CT_RESET || (flags & CT_FIN_BOTH) == CT_FIN_BOTH;
}

static __always_inline __u32 ct_timeout(const struct settings *settings, __u8 proto, __u32 flags)
{
	if (proto != IPPROTO_TCP)
		return settings->timeout[CT_TIMEOUT_ANY];
	if (ct_closing(flags))
		return settings->timeout[CT_TIMEOUT_TCP_FIN];
	return settings->timeout[flags & CT_NON_SYN ? CT_TIMEOUT_TCP : CT_TIMEOUT_TCP_SYN];
}

/* Whether the entry still stands for a flow. */
static __always_inline bool ct_alive(const struct settings *settings, const struct ct_entry *e,
				     __u8 proto, __u32 flags)
{
	return !(flags & CT_TERMINAL) &&
	       jiffies_since(settings, e->last) <= ct_timeout(settings, proto, flags);
}

static __always_inline __u64 ct_state(const struct ct_entry *e)
{
	return *(volatile __u64 *)&e->state;
}

/* Add flags to what state was a moment ago. One that another CPU ended stays as it is. */
static __always_inline void ct_set_flags(struct ct_entry *e, __u64 state, __u32 flags)
{
	if (!((__u32)state & CT_TERMINAL) && flags & ~(__u32)state)
		__sync_val_compare_and_swap(&e->state, state, state | flags);
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

static __always_inline struct ct_entry *ct_lookup(const struct ct_key *key)
{
	if (key->proto == IPPROTO_TCP)
		return table_lookup(&ct_tcp_map, key);
	return table_lookup(&ct_any_map, key);
}

/*
 * The fast path: the entry of an established flow that was judged by what is in
 * force now. One lookup, however many policies there are. NULL: ask ct_settle().
 */
static __always_inline struct ct_entry *ct_established(struct scratch *s)
{
	const struct settings *settings = settings_get();
	struct ct_entry *e = ct_lookup(&s->flow.key);
	__u64 state;

	s->absent = !e;
	if (!e || !settings)
		return NULL;
	state = ct_state(e);
	if (e->epoch != settings->epoch || !ct_alive(settings, e, s->packet.l4_proto, state))
		return NULL;
	return e;
}

/* What the fast path writes, once the program knows that the packet may pass. */
static __always_inline void ct_pass(struct ct_entry *e, const struct flow *f,
				    const struct packet *p)
{
	__u64 state = ct_state(e);
	__u32 add = ct_progress(p, state, f->side);

	ct_set_flags(e, state, add);
	ct_touch(e);
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

/* Everything about a flow but its state, from its two ends as the packet has them. */
static __always_inline void ct_describe(struct ct_entry *e, const struct scratch *s, __u32 epoch)
{
	__u8 side = s->flow.side & 1;

	e->identity[side] = s->src.identity;
	e->identity[!side] = s->dst.identity;
	end_way(&e->way[side], &s->src);
	end_way(&e->way[!side], &s->dst);
	e->last = jiffies_now();
	e->epoch = epoch; /* last: who sees it may use the rest */
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

/*
 * Move a flow to its protocol's table. Where there is no room, or another CPU
 * was faster, the entry that is there to use comes back.
 */
static __always_inline struct ct_entry *ct_promote(struct __sk_buff *ctx, struct scratch *s,
						   enum hook hook, struct ct_entry *e)
{
	struct ct_key *key = &s->flow.key;
	struct ct_entry *there;
	__u32 slot = TABLE_CURRENT;
	void *table, *embryonic;
	long err;

	table = key->proto == IPPROTO_TCP ? bpf_map_lookup_elem(&ct_tcp_map, &slot) :
					    bpf_map_lookup_elem(&ct_any_map, &slot);
	embryonic = bpf_map_lookup_elem(&ct_new_map, &slot);
	if (!table || !embryonic)
		return e;
	s->entry = *e;
	err = bpf_map_update_elem(table, key, &s->entry, BPF_NOEXIST);
	if (err && err != -EEXIST) {
		count(ctx, hook, REASON_CT_FULL);
		return e;
	}
	there = bpf_map_lookup_elem(table, key);
	if (!there || (__u32)ct_state(there) & CT_TERMINAL)
		return e; /* a corpse on its way out: try again with the next packet */
	bpf_map_delete_elem(embryonic, key);
	return there;
}

/* A packet of a flow that is known. Returns NULL when policy does not allow it any more. */
static __always_inline struct ct_entry *ct_continue(struct __sk_buff *ctx, struct scratch *s,
						    enum hook hook, struct ct_entry *e,
						    bool embryonic, __u32 epoch)
{
	__u64 state = ct_state(e);
	__u32 flags = state, judged = 0;

	if (e->epoch != epoch) {
		if (!(flags & CT_FROM_HOST))
			judged = ct_judge(ctx, s, hook, (flags & CT_ORIGIN) == s->flow.side);
		if (judged & CT_DEAD)
			return NULL;
		ct_describe(e, s, epoch);
		if ((flags ^ judged) & CT_AUDITED && !(flags & CT_TERMINAL)) {
			flags ^= CT_AUDITED;
			__sync_val_compare_and_swap(&e->state, state, state ^ CT_AUDITED);
			state ^= CT_AUDITED;
		}
	}
	flags |= ct_progress(&s->packet, flags, s->flow.side);
	ct_set_flags(e, state, flags);
	ct_touch(e);
	if (embryonic && flags & CT_ASSURED)
		return ct_promote(ctx, s, hook, e);
	return e;
}

/*
 * A packet of a flow that is new, or begins again, and was judged: e is what is
 * left of an earlier one with the same key, if there is something left.
 */
static __always_inline struct ct_entry *ct_begin(struct scratch *s, struct ct_entry *e, __u32 flags,
						 __u32 epoch, enum reason *reason)
{
	__u32 slot = TABLE_CURRENT;
	__u64 state, old;
	void *table;

	flags |= s->flow.side ? CT_ORIGIN : 0;
	if (s->src.identity == IDENTITY_HOST)
		flags |= CT_FROM_HOST;
	flags |= ct_progress(&s->packet, flags, s->flow.side);
	state = (__u64)jiffies_now() << 32 | flags;
	*reason = REASON_CT_RACED;
	if (e) {
		old = ct_state(e);
		if ((__u32)old & CT_TERMINAL ||
		    __sync_val_compare_and_swap(&e->state, old, state) != old)
			return NULL;
		ct_describe(e, s, epoch);
		return e;
	}
	table = bpf_map_lookup_elem(&ct_new_map, &slot);
	if (!table)
		return NULL;
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.state = state;
	ct_describe(&s->entry, s, epoch);
	if (bpf_map_update_elem(table, &s->flow.key, &s->entry, BPF_NOEXIST))
		return NULL;
	/* With both ways known there is nothing more to write. */
	if (s->entry.way[0].kind != WAY_UNKNOWN && s->entry.way[1].kind != WAY_UNKNOWN)
		return &s->entry;
	return bpf_map_lookup_elem(table, &s->flow.key);
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

/*
 * The entry of a packet that the fast path has none for: of a flow that is new,
 * half open, was judged before a permission was taken away, or begins again.
 * Returns NULL with *reason: a drop, or REASON_CT_RACED, when the packet may
 * pass but there is no entry to remember that in.
 */
static __noinline struct ct_entry *ct_settle(struct __sk_buff *ctx, struct scratch *s,
					     enum hook hook, enum reason *reason)
{
	const struct settings *settings = settings_get();
	bool embryonic = false, opening = is_opening(&s->packet);
	struct ct_entry *e = NULL;
	__u32 epoch, flags = 0;

	*reason = DROP_POLICY;
	if (!settings)
		return NULL;
	epoch = *(volatile __u32 *)&settings->epoch; /* before anything is judged */
	/* What is denied costs no look-up of flows: it is what floods consist of. */
	if (opening)
		flags = ct_judge(ctx, s, hook, true);
	if (flags & CT_DEAD)
		return NULL;
	if (!s->absent)
		e = ct_lookup(&s->flow.key);
	if (e && ct_continues(settings, e, s))
		return ct_continue(ctx, s, hook, e, false, epoch);
	if (!e || (__u32)ct_state(e) & CT_TERMINAL) {
		e = table_lookup(&ct_new_map, &s->flow.key);
		embryonic = true;
	}
	if (embryonic && e && ct_continues(settings, e, s))
		return ct_continue(ctx, s, hook, e, true, epoch);
	if (!opening)
		flags = ct_judge(ctx, s, hook, true);
	if (flags & CT_DEAD)
		return NULL;
	return ct_begin(s, e, flags, epoch, reason);
}
