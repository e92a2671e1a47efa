/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one way to count a packet and the one way to drop it. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"

static __always_inline void count(struct __sk_buff *ctx, enum hook hook, enum reason reason)
{
	__u32 index = hook * REASON_COUNT + (reason & (REASON_COUNT - 1));
	struct metrics_value *value = bpf_map_lookup_elem(&metrics_map, &index);

	if (!value)
		return;
	/* The slot is this CPU's, and bottom halves are off: nobody else writes it now. */
	value->packets++;
	value->bytes += ctx->len;
}

static __always_inline int drop(struct __sk_buff *ctx, enum hook hook, enum reason reason)
{
	count(ctx, hook, reason);
	return TC_ACT_SHOT;
}

/* Leave the packet to the next program of the chain and then to the stack. */
static __always_inline int to_stack(struct __sk_buff *ctx, enum hook hook)
{
	count(ctx, hook, REASON_TO_STACK);
	return TC_ACT_UNSPEC;
}
