/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map. A sized table is an inner map; programs reach it through slot
 * TABLE_CURRENT of its outer map, so that user space can put a larger, smaller
 * or differently laid out one in its place without touching the program. While
 * a table that programs write to moves, the one before is in slot TABLE_OLD
 * (docs/adr/0011-moving-tables.md): what is not in the current one may be there,
 * and what is new goes into the current one alone.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

#define E2BIG 7
#define EBUSY 16
#define EEXIST 17

/* The outer map of tables that are declared like struct table. */
#define OUTER_MAP(name, table)                                                                     \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, TABLE_SLOTS);                                                  \
		__type(key, __u32);                                                                \
		__array(values, struct table);                                                     \
	} name SEC(".maps")

/* Addresses of this node: its own and its pods'. Written by the agent. */
struct endpoint_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct endpoint_key));
	__uint(value_size, sizeof(struct endpoint));
};

OUTER_MAP(endpoint_map, endpoint_table);

/* Addresses of other nodes: their own and their pods' ranges. Written by the agent. */
struct ipcache_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct ipcache_key));
	__uint(value_size, sizeof(struct ipcache_entry));
};

OUTER_MAP(ipcache_map, ipcache_table);

/* Addresses of pods and nodes elsewhere, with their identities. Written by the agent. */
struct identity_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 524288);
	__uint(key_size, sizeof(struct identity_key));
	__uint(value_size, sizeof(struct identity_entry));
};

OUTER_MAP(identity_map, identity_table);

/* Prefixes that policy sets in use speak of. Written by the agent. */
struct cidr_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct cidr_key));
	__uint(value_size, sizeof(struct cidr_entry));
};

OUTER_MAP(cidr_map, cidr_table);

/* Policy sets: set and peer to what is allowed. Written by the agent. */
struct policy_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__uint(key_size, sizeof(struct policy_key));
	__uint(value_size, sizeof(struct policy_entry));
};

OUTER_MAP(policy_map, policy_table);

/* Lists of port ranges that policy entries share. Written by the agent. */
struct port_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(__u64));
	__uint(value_size, sizeof(struct port_list));
};

OUTER_MAP(port_map, port_table);

/*
 * Flows that both sides take part in. Nothing is ever evicted; the programs add
 * and change entries, the collector removes them. Sizes are set by the agent.
 */
struct ct_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(key_size, sizeof(struct ct_key));
	__uint(value_size, sizeof(struct ct_entry));
};

OUTER_MAP(ct_tcp_map, ct_table);

OUTER_MAP(ct_any_map, ct_table);

/*
 * Embryonic flows of all protocols: half open, one way, or with no room in their
 * table. A flood evicts none but these. An entry leaves when its flow moves on.
 */
struct ct_new_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct ct_key));
	__uint(value_size, sizeof(struct ct_entry));
};

OUTER_MAP(ct_new_map, ct_new_table);

/*
 * Tables of flows that programs with another layout of entries left. The agent
 * sets the size of values, and fills the only slot while entries are converted
 * (docs/adr/0012-layout-changes.md).
 */
#define FOREIGN_MAP(name, table)                                                                   \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__array(values, struct table);                                                     \
	} name SEC(".maps")

FOREIGN_MAP(ct_tcp_foreign_map, ct_table);

FOREIGN_MAP(ct_any_foreign_map, ct_table);

FOREIGN_MAP(ct_new_foreign_map, ct_new_table);

/* Where services are reached. Written by the agent. */
struct frontend_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct frontend_key));
	__uint(value_size, sizeof(struct frontend));
};

OUTER_MAP(frontend_map, frontend_table);

/* Backends of services: lists and slots. Written by the agent. */
struct backend_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct backend_key));
	__uint(value_size, sizeof(struct backend));
};

OUTER_MAP(backend_map, backend_table);

/* Maglev tables: a list's id to slots. The agent sets the size of values. Written by the agent. */
struct maglev_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
};

OUTER_MAP(maglev_map, maglev_table);

/* Backends that clients keep. Written by the programs. */
struct affinity_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct affinity_key));
	__uint(value_size, sizeof(struct affinity_entry));
};

OUTER_MAP(affinity_map, affinity_table);

/* Who may reach which service from outside. Written by the agent. */
struct source_range_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct source_range_key));
	__uint(value_size, sizeof(__u32));
};

OUTER_MAP(source_range_map, source_range_table);

/* Destinations that pods reach with their own address. Written by the agent. */
struct native_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct native_key));
	__uint(value_size, sizeof(__u32));
};

OUTER_MAP(native_map, native_table);

/* Sockets that talk to a backend, to name the frontend to them. Written by the programs. */
struct sock_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(key_size, sizeof(struct sock_key));
	__uint(value_size, sizeof(struct sock_entry));
};

OUTER_MAP(sock_map, sock_table);

/* Ports of fragmented packets on their way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} fragment_map SEC(".maps");

/* The agent's live settings. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings_map SEC(".maps");

/* Packets and bytes by program and reason; index hook * REASON_COUNT + reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_COUNT *REASON_COUNT);
	__type(key, __u32);
	__type(value, struct metrics_value);
} metrics_map SEC(".maps");

/* Inserts into tables; index enum table_id. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TABLE_IDS);
	__type(key, __u32);
	__type(value, struct table_stats);
} table_stats_map SEC(".maps");

/* What is left of each CPU's allowance of ICMP errors. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct icmp_budget);
} icmp_budget_map SEC(".maps");

/* The table in one of outer's slots. */
static __always_inline void *table_in(void *outer, __u32 slot)
{
	return bpf_map_lookup_elem(outer, &slot);
}

/* Look up key in the table that outer's current slot holds. */
static __always_inline void *table_lookup(void *outer, const void *key)
{
	void *table = table_in(outer, TABLE_CURRENT);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

/*
 * The same of a table that moves, whose entries are written whole: what the old
 * one has is as good until the current one has it too.
 */
static __always_inline void *table_lookup_both(void *outer, const void *key)
{
	void *value = table_lookup(outer, key), *old;

	if (value)
		return value;
	old = table_in(outer, TABLE_OLD);
	return old ? bpf_map_lookup_elem(old, key) : NULL;
}

/* Count an entry that left a table for another one. */
static __always_inline void table_count_moved_on(__u32 table)
{
	struct table_stats *stats = bpf_map_lookup_elem(&table_stats_map, &table);

	if (stats)
		stats->moved_on++;
}

/* Count an attempt to insert into a table, from what the kernel said to it. */
static __always_inline void table_count_insert(__u32 table, long err)
{
	struct table_stats *stats = bpf_map_lookup_elem(&table_stats_map, &table);

	if (!stats || err == -EEXIST)
		return;
	if (!err)
		stats->inserted++;
	else if (err == -E2BIG)
		stats->full++;
	else if (err == -EBUSY)
		stats->busy++;
	else
		stats->failed++;
}
