/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From an address of a service to one of its backends: once a flow, or once a
 * socket. What the tables hold, and in which order they are written, the agent
 * decides: internal/loadbalance, internal/datapath/services.go.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "hash.h"
#include "maps.h"
#include "settings.h"

/* A client that asks for a backend. */
struct service_query {
	struct frontend_key frontend; /* what it asks for */
	struct affinity_key client; /* service is filled in */
	union addr source; /* for the source ranges and the hash */
	__u32 scope; /* enum frontend_scope */
	__be16 sport;
	__u8 ip4; /* of the client */
	__u8 here; /* the client is on this node */
};

/* Lists of one service are chosen from by the same flow in the same way. */
static __always_inline __u32 service_hash(const struct service_query *q, __u32 seed, bool sticky)
{
	__u32 words[6] = {
		q->source.w[0],
		q->source.w[1],
		q->source.w[2],
		q->source.w[3],
		(__u32)(sticky ? 0 : q->sport) << 16 | q->frontend.port,
		q->frontend.proto,
	};

	return jhash6(words, seed);
}

static __always_inline struct backend *backend_at(__u32 list, __u32 slot)
{
	struct backend_key key = { .list = list, .slot = slot };

	return table_lookup(&backend_map, &key);
}

/* The slot that a Maglev table has for the client; the same on every node. */
static __always_inline __u32 maglev_slot(const struct service_query *q, __u32 list, bool sticky)
{
	__u32 hash = service_hash(q, q->ip4 ? config.maglev_seed4 : config.maglev_seed6, sticky);
	__u32 *table = table_lookup(&maglev_map, &list), size = config.maglev_size, index;

	if (!table || !size)
		return 0;
	index = hash % size;
	barrier_var(index); /* the verifier knows no remainders, the compiler too much */
	return index < size ? table[index] : 0;
}

static __always_inline struct backend *backend_choose(const struct frontend *f,
						      const struct service_query *q)
{
	const struct backend_list *list = &f->list[q->scope & 1];
	bool sticky = f->flags & FRONTEND_AFFINITY;
	__u32 hash;

	if (q->scope == SCOPE_OUTSIDE && f->flags & FRONTEND_MAGLEV)
		return backend_at(list->id, maglev_slot(q, list->id, sticky));
	/* A flow whose entry is lost finds its backend again, while the list stays. */
	hash = service_hash(q, config.hash_seed ^ q->frontend.addr.w[3], false);
	return backend_at(list->id, (__u64)hash * list->count >> 32);
}

/* The backend that the client had last, if it still serves and not too long ago. */
static __always_inline struct backend *backend_kept(const struct frontend *f,
						    struct service_query *q)
{
	const struct backend_list *list = &f->list[q->scope & 1];
	const struct settings *settings = settings_get();
	struct affinity_entry *kept;
	struct backend *b;

	q->client.service = f->service;
	kept = table_lookup_both(&affinity_map, &q->client);
	if (!kept || !settings || jiffies_since(settings, kept->last) / settings->hz > f->affinity)
		return NULL;
	b = backend_at(list->id, BACKEND_BY_ID | kept->backend);
	if (b)
		kept->last = jiffies_now();
	return b;
}

static __always_inline void backend_keep(const struct service_query *q, const struct backend *b)
{
	struct affinity_entry entry = { .backend = b->id, .last = jiffies_now() };
	void *table = table_in(&affinity_map, TABLE_CURRENT);

	if (table)
		table_count_insert(TABLE_AFFINITY,
				   bpf_map_update_elem(table, &q->client, &entry, BPF_ANY));
}

/* Whether the service takes clients from there. */
static __always_inline bool in_source_ranges(const struct frontend *f,
					     const struct service_query *q)
{
	struct source_range_key key = { .prefix_len = 32 + 128,
					.service = f->service,
					.addr = q->source };

	return table_lookup(&source_range_map, &key);
}

/*
 * The backend for a client, at a frontend that was found. NULL with *reason when
 * it gets none.
 */
static __always_inline struct backend *service_select(const struct frontend *f,
						      struct service_query *q, enum reason *reason)
{
	struct backend *b = NULL;
	__u32 silent;

	*reason = DROP_NO_BACKEND;
	if (f->flags & FRONTEND_CLOSED)
		return NULL;
	if (q->scope == SCOPE_OUTSIDE) {
		if (f->flags & FRONTEND_CLUSTER_ONLY)
			return NULL;
		if (f->flags & FRONTEND_SOURCE_RANGES && !in_source_ranges(f, q)) {
			*reason = DROP_SOURCE_RANGE;
			return NULL;
		}
	}
	/* Of an address that is not the cluster's alone, who comes from another node gets what
	 * this node offers to the outside: externalTrafficPolicy asks where the packet came in. */
	if (!q->here && !(f->flags & FRONTEND_CLUSTER_ONLY))
		q->scope = SCOPE_OUTSIDE;
	silent = q->scope == SCOPE_OUTSIDE ? FRONTEND_SILENT_OUTSIDE : FRONTEND_SILENT_CLUSTER;
	if (!f->list[q->scope & 1].count) {
		if (f->flags & silent)
			*reason = DROP_NO_LOCAL_BACKEND;
		return NULL;
	}
	if (f->flags & FRONTEND_AFFINITY)
		b = backend_kept(f, q);
	if (b)
		return b;
	b = backend_choose(f, q);
	if (b && f->flags & FRONTEND_AFFINITY)
		backend_keep(q, b);
	return b;
}

/*
 * The frontend of an address and port; of an address of services that has no
 * such port, one that is closed. NULL where no service has the address.
 */
static __always_inline struct frontend *frontend_lookup(struct frontend_key *key)
{
	struct frontend_key address = { .addr = key->addr };
	struct frontend *f = table_lookup(&frontend_map, key);

	return f ?: table_lookup(&frontend_map, &address);
}
