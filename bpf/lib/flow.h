/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The key of a packet's flow, the same for both of its directions. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "entry.h"
#include "maps.h"
#include "scratch.h"

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

/* The key of packets between two ends, and which side of it the first is. */
static __always_inline void flow_between(struct flow *f, const union addr *src,
					 const union addr *dst, __be16 sport, __be16 dport,
					 __u8 proto)
{
	f->key.proto = proto;
	__builtin_memset(f->key.pad, 0, sizeof(f->key.pad));
	if (addr_less(src, dst) || (addr_equal(src, dst) && sport < dport)) {
		f->side = 0;
		f->key.addr[0] = *src;
		f->key.addr[1] = *dst;
		f->key.port[0] = sport;
		f->key.port[1] = dport;
	} else {
		f->side = 1;
		f->key.addr[0] = *dst;
		f->key.addr[1] = *src;
		f->key.port[0] = dport;
		f->key.port[1] = sport;
	}
}

static __always_inline void flow_of(const struct packet *p, struct flow *f)
{
	flow_between(f, &p->src, &p->dst, p->sport, p->dport, p->l4_proto);
}

/* The side whose packets a translated flow's entry translates. */
static __always_inline __u8 nat_side(__u32 flags)
{
	return flags & CT_NAT_SIDE ? 1 : 0;
}

/*
 * The entry of a flow that is not in the current table, which may be on its way
 * from the old one. One that was marked for that but is not there yet is helped
 * over: none but a table without room makes it wait.
 */
static __noinline struct ct_entry *ct_follow(void *current, void *old, const struct ct_key *key)
{
	struct ct_entry *e = bpf_map_lookup_elem(old, key);
	struct scratch *s = scratch_get();
	__u64 state;
	long err;

	if (!e || !s)
		return bpf_map_lookup_elem(current, key); /* it arrived just now */
	state = ct_state(e);
	if (state & CT_DEAD)
		return NULL;
	if (!(state & CT_MOVED))
		return e;
	ct_take(&s->moving, e);
	err = bpf_map_update_elem(current, key, &s->moving, BPF_NOEXIST);
	if (!err)
		ct_end_too(current, key, e);
	if (!err || err == -EEXIST)
		return bpf_map_lookup_elem(current, key);
	return ct_leave(current, key, e);
}

/*
 * The entry of a flow that is in no table of this layout. One of another layout is
 * converted, and left to the programs that still use it: the agent brings what
 * they do to it after it when they have ended.
 */
static __noinline struct ct_entry *ct_import(void *current, void *foreign, const struct ct_key *key)
{
	const void *there = bpf_map_lookup_elem(foreign, key);
	struct scratch *s = scratch_get();

	if (!there || !s)
		return NULL;
	ct_convert(&s->moving, there, config.segments);
	if (s->moving.state & CT_TERMINAL)
		return NULL;
	bpf_map_update_elem(current, key, &s->moving, BPF_NOEXIST);
	return bpf_map_lookup_elem(current, key);
}

static __always_inline struct ct_entry *ct_lookup_in(void *outer, void *foreign_outer,
						     const struct ct_key *key)
{
	void *current = table_in(outer, TABLE_CURRENT), *old, *foreign;
	struct ct_entry *e;

	if (!current)
		return NULL;
	e = bpf_map_lookup_elem(current, key);
	if (e)
		return e;
	old = table_in(outer, TABLE_OLD);
	if (old)
		return ct_follow(current, old, key);
	if (!config.foreign)
		return NULL;
	foreign = table_in(foreign_outer, 0);
	return foreign ? ct_import(current, foreign, key) : NULL;
}

/* The established flow with this key. */
static __always_inline struct ct_entry *ct_lookup(const struct ct_key *key)
{
	if (key->proto == IPPROTO_TCP)
		return ct_lookup_in(&ct_tcp_map, &ct_tcp_foreign_map, key);
	return ct_lookup_in(&ct_any_map, &ct_any_foreign_map, key);
}

/* The embryonic flow with this key. */
static __always_inline struct ct_entry *ct_lookup_new(const struct ct_key *key)
{
	return ct_lookup_in(&ct_new_map, &ct_new_foreign_map, key);
}
