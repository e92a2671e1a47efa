/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An agent whose flows are laid out in another way puts its programs in place one
 * after the other, and those from before do not see the flows that begin in the new
 * tables. So each program lets the one that was there before it do the work, until
 * all are in place and the agent takes that away: then all begin at once. Programs
 * that were loaded without a table of another layout have no code for it.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "config.h"

/* Where the agent puts the program of that name from before. The kernel wants one for each kind of
 * attachment. */
#define PROGRAM_BEFORE(program)                                                                    \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                             \
		__uint(max_entries, 1);                                                            \
		__uint(key_size, sizeof(__u32));                                                   \
		__uint(value_size, sizeof(__u32));                                                 \
	} program##_v0 SEC(".maps")

/* Does not come back where there is one. */
static __always_inline void hand_over(struct __sk_buff *ctx, void *before)
{
	if (config.foreign)
		bpf_tail_call(ctx, before, 0);
}
