/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The key of a packet's flow, the same for both of its directions. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
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

/* The established flow with this key. */
static __always_inline struct ct_entry *ct_lookup(const struct ct_key *key)
{
	if (key->proto == IPPROTO_TCP)
		return table_lookup(&ct_tcp_map, key);
	return table_lookup(&ct_any_map, key);
}
