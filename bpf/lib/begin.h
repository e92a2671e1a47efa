/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a flow begins: its embryonic entry, the twin of one that is translated, and the
 * source port of one that is masqueraded.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "conntrack.h"
#include "hash.h"
#include "twin.h"

/*
 * Make the twin of a flow that is about to begin: the entry that answers meet.
 * Returns false when its key is another flow's.
 */
__noinline int ct_begin_twin(struct scratch *s, __u32 flags)
{
	const struct settings *settings = settings_get();
	struct ct_entry *e, *there;
	struct ct_nat *nat;
	__u32 state;
	__u8 side;
	long err;
	void *table = table_in(&ct_new_map, TABLE_CURRENT);

	if (!s || !table || !settings)
		return false;
	nat = &s->entry.nat;
	flow_between(&s->twin, &s->nat.addr[0], &s->nat.addr[1], s->nat.port[0], s->nat.port[1],
		     s->packet.l4_proto);
	side = s->twin.side & 1;
	flags &= ~(CT_ORIGIN | CT_NAT_SIDE);
	flags |= CT_NAT | (side ? CT_ORIGIN : CT_NAT_SIDE);
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.state = (__u64)jiffies_now() << 32 | flags;
	ct_turn_back(nat, &s->packet, &s->nat);
	ct_describe(&s->entry, s, side);
	there = ct_lookup(&s->twin.key);
	if (!there && (config.foreign || table_in(&ct_new_map, TABLE_OLD)))
		there = ct_lookup_new(
			&s->twin.key); /* inserting finds those of the current table */
	if (!there) {
		err = bpf_map_update_elem(table, &s->twin.key, &s->entry, BPF_NOEXIST);
		table_count_insert(TABLE_CT_NEW, err);
		if (!err)
			return true;
	}
	e = there ?: bpf_map_lookup_elem(table, &s->twin.key);
	if (!e)
		return false;
	state = ct_state(e);
	/* One of the same two faces is this flow's own, whatever became of it. */
	if (!(state & CT_NAT && addr_equal(&e->nat.addr[0], &nat->addr[0]) &&
	      addr_equal(&e->nat.addr[1], &nat->addr[1]) && e->nat.port[0] == nat->port[0] &&
	      e->nat.port[1] == nat->port[1]) &&
	    ct_alive(settings, e, s->packet.l4_proto, state) &&
	    (s->masqueraded || !ct_closing(state)))
		return false;
	return ct_begin_again(e, s, &s->twin, flags, nat);
}

/* Where the search for a source port is. */
struct port_search {
	__u32 flags;
	__u32 start;
	bool found;
};

/* Ports are tried in steps that no others follow, so that there are no long runs of used ones. */
#define PORT_STEP 7919

static long ct_try_port(__u64 i, struct port_search *search)
{
	struct scratch *s = scratch_get();
	__u32 ports = config.nat_ports, step = ports % PORT_STEP ? PORT_STEP : 1;

	if (!s || !ports)
		return 1;
	s->nat.port[0] = bpf_htons(config.nat_port_first + (search->start + i * step) % ports);
	search->found = ct_begin_twin(s, search->flags);
	return search->found;
}

/*
 * A source port that makes the twin's key its own. Every port is tried if need
 * be. Not inlined, so that the verifier walks it once.
 */
__noinline int ct_find_port(struct scratch *s, __u32 flags)
{
	__u32 ports = config.nat_ports, words[6], hash, i;
	struct port_search search = { .flags = flags };

	if (!s || !ports)
		return false;
	for (i = 0; i < 4; i++)
		words[i] = s->nat.addr[1].w[i];
	words[4] = s->nat.port[1];
	words[5] = s->packet.l4_proto;
	hash = jhash6(words, config.hash_seed);
	/* A search in vain is long: one in a while is enough. */
	if (s->full_hash == hash && jiffies_now() - s->full_at <= config.sync_jiffies / 4)
		return false;
	search.start = bpf_get_prandom_u32() % ports;
	bpf_loop(ports, ct_try_port, &search, 0);
	if (!search.found) {
		s->full_hash = hash;
		s->full_at = jiffies_now();
	}
	return search.found;
}

/* The twin, with a source port where the source is masqueraded and has ports. */
static __always_inline enum reason ct_begin_other(struct scratch *s, __u32 flags)
{
	__u8 proto = s->packet.l4_proto;
	bool ports = proto == IPPROTO_TCP || proto == IPPROTO_UDP ||
		     is_echo_request(proto, s->packet.icmp_type);

	if (s->masqueraded && ports)
		return ct_find_port(s, flags) ? REASON_FORWARDED : DROP_NAT_EXHAUSTED;
	if (ct_begin_twin(s, flags))
		return REASON_FORWARDED;
	if (!ports)
		return DROP_NAT_CONFLICT;
	/* The client talks from this port to the backend already: it gets another one. */
	return ct_find_port(s, flags) ? REASON_FORWARDED : DROP_NAT_CONFLICT;
}

/* Whether the entry that the origin meets is made by the first answer: there is no source port to
 * remember. */
static __always_inline bool ct_begins_with_answer(const struct scratch *s)
{
	return s->translated && !s->masqueraded && s->nat.port[0] == s->packet.sport;
}

/*
 * A packet of a flow that is new, or begins again, and was judged: e is what is
 * left of an earlier one with the same key, or NULL. Returns 0 when there is an
 * entry now, e or a new one that is s->entry too, or need not be; else the reason to
 * drop the packet, or REASON_CT_RACED. Not inlined, so that the verifier walks it once.
 */
__noinline int ct_begin(struct scratch *s, struct ct_entry *e, __u32 flags)
{
	const struct settings *settings = settings_get();
	enum reason reason;
	void *table;
	__u8 side;
	long err;

	if (!s || !settings)
		return DROP_INVALID_PACKET;
	side = s->flow.side & 1;
	flags |= side ? CT_ORIGIN : 0;
	if (s->src.identity == IDENTITY_HOST)
		flags |= CT_FROM_HOST;
	flags |= ct_progress(&s->packet, flags, side);
	if (s->translated) {
		flags |= CT_NAT | (side ? CT_NAT_SIDE : 0) | (s->nat.service ? CT_SERVICE : 0);
		reason = ct_begin_other(s, flags);
		if (reason)
			return reason;
		s->nat.synced = jiffies_now();
	}
	if (e)
		return ct_begin_again(e, s, &s->flow, flags, &s->nat) ? REASON_FORWARDED :
									REASON_CT_RACED;
	if (ct_begins_with_answer(s))
		return REASON_FORWARDED;
	table = table_in(&ct_new_map, TABLE_CURRENT);
	if (!table)
		return REASON_CT_RACED;
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.state = (__u64)jiffies_now() << 32 | flags;
	if (s->translated)
		s->entry.nat = s->nat;
	ct_describe(&s->entry, s, side);
	err = bpf_map_update_elem(table, &s->flow.key, &s->entry, BPF_NOEXIST);
	table_count_insert(TABLE_CT_NEW, err);
	if (!err)
		return REASON_FORWARDED;
	e = s->translated ? bpf_map_lookup_elem(table, &s->flow.key) : NULL;
	if (!e)
		return REASON_CT_RACED;
	if (ct_has_ended(settings, e, s->packet.l4_proto, ct_state(e)))
		return ct_begin_again(e, s, &s->flow, flags, &s->nat) ? REASON_FORWARDED :
									REASON_CT_RACED;
	/* Another CPU or an earlier packet was here: its translation is the one that counts. */
	if (ct_state(e) & CT_NAT)
		s->nat = e->nat;
	return REASON_CT_RACED;
}
