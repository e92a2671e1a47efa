// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * pod.bpf.c as it would be with tables that cannot be replaced: every map of maps
 * is taken for a plain map. Whoever loads it declares them so. Never attached: it
 * tells what being resizable costs.
 */
#define table_in table_in_slot
#define table_lookup table_lookup_in_slot
#define table_lookup_both table_lookup_in_slots
#include "lib/maps.h"
#undef table_in
#undef table_lookup
#undef table_lookup_both

/* The table that takes the place of an outer map. Nothing has an old one. */
static __always_inline void *table_in(void *table, __u32 slot)
{
	return slot == TABLE_CURRENT ? table : NULL;
}

static __always_inline void *table_lookup(void *table, const void *key)
{
	return bpf_map_lookup_elem(table, key);
}

static __always_inline void *table_lookup_both(void *table, const void *key)
{
	return bpf_map_lookup_elem(table, key);
}

#include "pod.bpf.c"
