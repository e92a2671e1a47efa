/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The working memory of a program. Each CPU has its own: programs run with
 * bottom halves off and to their end before the next one starts. It is a map's
 * and not the stack's, which is small, and because the verifier forgets what is
 * stored here: else it would walk the rest of a program anew for each way
 * through the parser.
 */
#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

/* Bytes of the offending packet that come back in an ICMP error. A multiple of four. */
#define ICMP_QUOTE_MAX 128

/* What the headers say. */
struct packet {
	union addr src;
	union addr dst;
	__u32 l3_len; /* header and payload of L3, bytes */
	__u16 l4_off; /* from the start of the frame */
	__u16 l4_len; /* length of the L4 header; 0 if it was not looked at */
	__u8 version; /* 4 or 6 */
	__u8 l4_proto;
	__u8 ttl;
	__u8 tos;
	bool dont_fragment; /* always true for IPv6 */
	bool fragment; /* not the whole of what was sent */
	bool later_fragment; /* has no L4 header */
	__u8 tcp_flags;
	__u8 icmp_type;
	/* Of ICMP echo: the identifier where a request comes from, 0 where it goes. */
	__be16 sport;
	__be16 dport;
	__be32 fragment_id;
};

/* A packet's place in its flow. */
struct flow {
	struct ct_key key;
	__u8 side; /* of the key: where the packet comes from */
};

/* One end of a packet's flow, as far as this node knows it. */
struct end {
	struct endpoint ep; /* zero unless it is on this node */
	__u32 identity;
	bool here; /* ep is something */
};

struct icmp_quote {
	__u8 bytes[ICMP_QUOTE_MAX];
};

struct scratch {
	struct packet packet;
	struct packet quoted; /* by an ICMP error */
	struct ct_nat nat; /* what the packet gets; without translation its own ends */
	bool translated;
	bool masqueraded; /* with a source port that is still to be found */
	bool anew; /* the flow begins again, with another backend */
	bool related; /* an ICMP error of a flow that is known */
	bool portless; /* a fragment whose first was not seen */
	bool denied; /* by a rule that denies, when policy last said no */
	struct flow flow;
	struct flow twin; /* as it is once translated */
	bool absent; /* no established table has the flow */
	bool unknown; /* nor has the embryonic one: it was looked up */
	__u32 epoch; /* before anything was judged */
	struct flow quoted_flow;
	struct end src;
	struct end dst;
	struct ct_entry entry; /* on its way into a table */
	struct ct_entry moving; /* from an old table to the current one */
	struct ct_way way; /* of a packet without a flow */
	__u32 full_hash; /* of a destination that had no port left */
	__u32 full_at; /* jiffies */
	struct bpf_fib_lookup fib;
	struct icmp_quote quote;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch_map SEC(".maps");

/* The map has an entry at 0; only the verifier does not know. */
static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch_map, &zero);
}
