// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Never loaded. Compiled so that every type of lib/types.h reaches Go through
 * its BTF: inner-map keys and values do not get there by themselves.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/types.h"

#define EXPORT(type, name) type *abi_##name __attribute__((unused))

EXPORT(union addr, addr);
EXPORT(enum hook, hook);
EXPORT(enum reason, reason);
EXPORT(enum endpoint_flags, endpoint_flags);
EXPORT(enum table_slot, table_slot);
EXPORT(struct endpoint_key, endpoint_key);
EXPORT(struct endpoint, endpoint);
EXPORT(struct ipcache_key, ipcache_key);
EXPORT(struct ipcache_entry, ipcache_entry);
EXPORT(struct metrics_value, metrics_value);
EXPORT(struct icmp_budget, icmp_budget);
EXPORT(struct config, config);
