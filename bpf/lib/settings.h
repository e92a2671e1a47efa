/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent changes while the programs run. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"

/* The map has an entry at 0; only the verifier does not know. */
static __always_inline const struct settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings_map, &zero);
}

/* The clock of entries: it costs nothing to read, and wraps around. */
static __always_inline __u32 jiffies_now(void)
{
	return bpf_jiffies64();
}

/*
 * Jiffies since then. Another CPU may have written a time that this one has not
 * reached: up to a second ahead is now.
 */
static __always_inline __u32 jiffies_since(const struct settings *settings, __u32 then)
{
	__u32 age = jiffies_now() - then;

	return age > -settings->hz ? 0 : age;
}
