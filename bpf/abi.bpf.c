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
EXPORT(struct fragment_ports, fragment_ports);
EXPORT(struct fragment_key, fragment_key);
EXPORT(struct settings, settings);
EXPORT(enum ct_timeout, ct_timeout);
EXPORT(struct ct_entry, ct_entry);
EXPORT(struct ct_way, ct_way);
EXPORT(enum way_kind, way_kind);
EXPORT(enum ct_flags, ct_flags);
EXPORT(struct ct_key, ct_key);
EXPORT(struct port_list, port_list);
EXPORT(struct port_range, port_range);
EXPORT(enum port_flags, port_flags);
EXPORT(struct policy_entry, policy_entry);
EXPORT(struct policy_key, policy_key);
EXPORT(enum policy_constants, policy_constants);
EXPORT(struct cidr_entry, cidr_entry);
EXPORT(struct cidr_key, cidr_key);
EXPORT(struct identity_entry, identity_entry);
EXPORT(struct identity_key, identity_key);
EXPORT(enum identity, identity);
EXPORT(struct metrics_value, metrics_value);
EXPORT(struct icmp_budget, icmp_budget);
EXPORT(struct ct_nat, ct_nat);
EXPORT(struct frontend_key, frontend_key);
EXPORT(struct frontend, frontend);
EXPORT(enum frontend_flags, frontend_flags);
EXPORT(enum frontend_scope, frontend_scope);
EXPORT(struct backend_list, backend_list);
EXPORT(struct backend_key, backend_key);
EXPORT(struct backend, backend);
EXPORT(enum backend_constants, backend_constants);
EXPORT(struct affinity_key, affinity_key);
EXPORT(struct affinity_entry, affinity_entry);
EXPORT(struct source_range_key, source_range_key);
EXPORT(struct native_key, native_key);
EXPORT(struct sock_key, sock_key);
EXPORT(struct sock_entry, sock_entry);
EXPORT(struct config, config);
EXPORT(enum table_id, table_id);
EXPORT(struct ct_segment, ct_segment);
EXPORT(enum layout_constants, layout_constants);
EXPORT(struct table_stats, table_stats);
