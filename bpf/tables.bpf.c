// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the agent does with whole tables, in the kernel.
 *
 * ct_collect, ct_flush, ct_forget, ct_dump: iter/bpf_map_elem, called for each entry of one
 * conntrack table, and without an entry at its end. The agent drives them by
 * reading: a read ends once it has its bytes, so a walk writes some now and then,
 * and no read takes long. They return 0: go on.
 *
 * ct_move: the same, over the old one of two tables while flows move from it to
 * the current one (docs/adr/0011-moving-tables.md). It may be run again at any time.
 *
 * ct_bring: the same over a table of another layout that no program uses any more:
 * what is in it comes into the current table (docs/adr/0012-layout-changes.md).
 *
 * table_counts: run by the agent itself, returns 0.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/entry.h"

/* The kernel's own, as far as they are used here. */
struct bpf_map {
};

struct seq_file {
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym;

/* The table that is walked, as a deletion needs it. Replaced by the agent, which also sets its
 * type. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct ct_key));
	__uint(value_size, sizeof(struct ct_entry));
} walked_map SEC(".maps");

/* The old table that the walked one has while flows move. Replaced by the agent, which also sets
 * its type. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct ct_key));
	__uint(value_size, sizeof(struct ct_entry));
} before_map SEC(".maps");

/* Where flows move to. Replaced by the agent, which also sets its type. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct ct_key));
	__uint(value_size, sizeof(struct ct_entry));
} target_map SEC(".maps");

/* Ids of backends that are gone: ct_forget deletes the entries of their flows. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} gone_map SEC(".maps");

/* Entries that a deleting walk passes until it writes a byte, or a dump until it writes a pause. */
volatile const __u32 stride = 1024;

/* How far a flow has come. */
enum ct_phase {
	CT_PHASE_NEW,
	CT_PHASE_REPLIED,
	CT_PHASE_ESTABLISHED,
	CT_PHASE_CLOSING,
};

/* Entries to dump or flush: those that meet every condition. */
struct ct_filter {
	union addr net; /* of either side, under the mask */
	union addr mask; /* all zero: any */
	union addr pod[2]; /* either side is one of these */
	__u32 pods; /* how many of them count; 0: any */
	__u32 phases; /* bits by enum ct_phase; 0: any */
	__be16 port; /* of either side; 0: any */
	__u8 proto; /* 0: any */
	__u8 ipv6; /* the net is one of IPv6: IPv4 addresses are not in it */
};

/* Kinds of entries that are counted apart: bits of an index. */
enum ct_kind {
	CT_KIND_TCP = 1 << 0,
	CT_KIND_IPV6 = 1 << 1,
	CT_KINDS = 1 << 2,
};

/* What a deleting walk deletes. */
enum ct_walk {
	CT_WALK_EXPIRED,
	CT_WALK_FILTERED,
	CT_WALK_GONE,
};

struct ct_totals {
	__u64 alive[CT_KINDS];
	__u64 deleted[CT_KINDS];
};

/* What became of the entries that ct_move passed. */
struct ct_moves {
	__u64 moved; /* by this walk */
	__u64 present; /* in the current table already: moved before, or helped over by a packet */
	__u64 ended; /* expired or deleted: left behind */
	__u64 left; /* still in the old table: the current one had no room */
};

/* From the layout of the walked table's entries to this one's. */
volatile const struct ct_segment segments[CT_SEGMENTS];

/* What a dump gives: an entry, or a pause without one. */
struct ct_record {
	struct ct_key key;
	__u32 now; /* jiffies */
	__u32 pause;
	struct ct_entry entry;
};

struct counts {
	__u64 jiffies;
	__u64 endpoint;
	__u64 identity;
	__u64 policy;
	__u64 port;
	__u64 ct_tcp;
	__u64 ct_any;
	__u64 ct_new;
	__u64 fragment;
	__u64 frontend;
	__u64 backend;
	__u64 maglev;
	__u64 affinity;
	__u64 sock;
};

/* Named so that their types reach Go. */
enum ct_phase *tables_ct_phase __attribute__((unused));
enum ct_kind *tables_ct_kind __attribute__((unused));
struct ct_record *tables_ct_record __attribute__((unused));

/* Of one walk. The agent clears and reads them; it walks a table with one program at a time. */
struct ct_filter filter;
struct ct_totals totals;
struct ct_moves moves;
__u32 frozen; /* the table is an old one: nothing is deleted from it, only marked */
__u32 marking; /* entries are marked in both tables, and deleted by the next walk */
__u32 sweeping; /* only what is marked is deleted */
__u64 limit; /* the most records of a dump */
__u64 matched;
__u32 passed;

/*
 * Entries to delete, once the walk has left their bucket: it would lose its place
 * in one that shrinks. Until then nothing has happened to them, so that a walk may
 * pause or end at any time. No bucket comes near this length.
 */
#define CANDIDATES 64
struct ct_key candidates[CANDIDATES];
__u32 found;
__u32 settled;

/*
 * Whether the entry was idle for longer than its timeout and slack. A flow that
 * begins again gets a new birth before it gets a new last, so both count.
 */
static __always_inline bool is_idle(const struct settings *settings, __u8 proto, __u64 state,
				    __u32 last, __u32 slack)
{
	__u32 idle = jiffies_since(settings, last), age = jiffies_since(settings, state >> 32);

	if (age < idle)
		idle = age;
	return idle > (__u64)ct_timeout(settings, proto, state) + slack;
}

static __always_inline bool is_ipv4(const union addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool in_net(const union addr *a)
{
	const union addr *net = &filter.net, *mask = &filter.mask;

	return !(filter.ipv6 && is_ipv4(a)) && !((a->w[0] ^ net->w[0]) & mask->w[0]) &&
	       !((a->w[1] ^ net->w[1]) & mask->w[1]) && !((a->w[2] ^ net->w[2]) & mask->w[2]) &&
	       !((a->w[3] ^ net->w[3]) & mask->w[3]);
}

static __always_inline bool is_filter_pod(const union addr *a)
{
	return addr_equal(a, &filter.pod[0]) || (filter.pods > 1 && addr_equal(a, &filter.pod[1]));
}

static __always_inline enum ct_phase phase_of(__u8 proto, __u32 flags)
{
	if (proto == IPPROTO_TCP && ct_closing(flags))
		return CT_PHASE_CLOSING;
	if (flags & CT_ASSURED)
		return CT_PHASE_ESTABLISHED;
	return flags & CT_REPLIED ? CT_PHASE_REPLIED : CT_PHASE_NEW;
}

static __always_inline bool matches(const struct ct_key *key, __u32 flags)
{
	if (filter.proto && key->proto != filter.proto)
		return false;
	if (filter.port && key->port[0] != filter.port && key->port[1] != filter.port)
		return false;
	if (filter.phases && !(filter.phases & 1U << phase_of(key->proto, flags)))
		return false;
	if (filter.pods && !is_filter_pod(&key->addr[0]) && !is_filter_pod(&key->addr[1]))
		return false;
	return in_net(&key->addr[0]) || in_net(&key->addr[1]);
}

/* Both entries of a flow to a service have its backend. */
static __always_inline bool is_gone(const struct ct_entry *e, __u64 state)
{
	__u32 backend = e->nat.backend;

	return state & CT_NAT && backend && bpf_map_lookup_elem(&gone_map, &backend);
}

/* Whether a deleting walk removes the entry now. */
static __always_inline bool is_doomed(const struct ct_key *key, const struct ct_entry *e,
				      __u64 state, __u32 kind)
{
	const struct settings *settings;

	if (state & CT_MOVED)
		return false;
	if (state & CT_DEAD)
		return true; /* marked by an agent that was killed before it deleted */
	if (sweeping)
		return false;
	if (kind == CT_WALK_FILTERED)
		return matches(key, state);
	if (kind == CT_WALK_GONE)
		return is_gone(e, state);
	settings = settings_get();
	return settings &&
	       is_idle(settings, key->proto, state, *(volatile __u32 *)&e->last, settings->hz);
}

static __always_inline __u32 kind_of(const struct ct_key *key)
{
	return (key->proto == IPPROTO_TCP ? CT_KIND_TCP : 0) |
	       (is_ipv4(&key->addr[0]) ? 0 : CT_KIND_IPV6);
}

/* Keep an entry of the old table from coming back. */
static __always_inline void mark_before(const struct ct_key *key)
{
	struct ct_entry *e = bpf_map_lookup_elem(&before_map, key);

	if (e)
		__sync_fetch_and_or(&e->state, (__u64)CT_DEAD);
}

/*
 * Settle the oldest candidate: mark it dead if it is still to go, so that no packet
 * revives it, then delete it. Nobody else deletes in between, so what is deleted is
 * what was marked. A global function, which the verifier looks at once.
 */
__noinline int settle(__u32 walk)
{
	const struct ct_key *key = &candidates[settled++ % CANDIDATES];
	struct ct_entry *e = bpf_map_lookup_elem(&walked_map, key);
	__u32 kind = kind_of(key);
	__u64 state;
	int tries;

	if (!e)
		return 0; /* evicted, or it moved on to its protocol's table */
	/* A packet may change a flow that is to be flushed, but not always at this moment. */
	for (tries = 0; tries < 4; tries++) {
		state = ct_state(e);
		if (!is_doomed(key, e, state, walk))
			break;
		if (!(state & CT_DEAD) &&
		    __sync_val_compare_and_swap(&e->state, state, state | CT_DEAD) != state)
			continue;
		if (marking)
			mark_before(key);
		else if (!bpf_map_delete_elem(&walked_map, key))
			totals.deleted[kind]++;
		return 0;
	}
	totals.alive[kind]++;
	return 0;
}

/*
 * Mark an entry of an old table dead if it is to go, so that it does not move. One
 * that moved is no longer there. A packet may change it, but not always just now.
 */
static __always_inline void mark_dead(const struct ct_key *key, struct ct_entry *e, __u32 walk)
{
	__u64 state;
	int tries;

	for (tries = 0; tries < 4; tries++) {
		state = ct_state(e);
		if (state & CT_TERMINAL || !is_doomed(key, e, state, walk))
			return;
		if (__sync_val_compare_and_swap(&e->state, state, state | CT_DEAD) == state) {
			totals.deleted[kind_of(key)]++;
			return;
		}
	}
}

static __always_inline void write_when_due(struct seq_file *seq)
{
	__u8 filler = 0;

	if (++passed < stride)
		return;
	passed = 0;
	bpf_seq_write(seq, &filler, sizeof(filler));
}

static __always_inline int walk(struct bpf_iter__bpf_map_elem *ctx, enum ct_walk kind)
{
	const struct ct_key *key = ctx->key;
	struct ct_entry *e = ctx->value;
	int i;

	if (!key || !e) {
		for (i = 0; i < CANDIDATES && settled != found; i++)
			settle(kind);
		return 0;
	}
	if (frozen) {
		mark_dead(key, e, kind);
	} else if (is_doomed(key, e, ct_state(e), kind)) {
		if (found - settled >= CANDIDATES)
			settle(kind);
		candidates[found++ % CANDIDATES] = *key;
	} else {
		totals.alive[kind_of(key)]++;
	}
	write_when_due(ctx->meta->seq);
	return 0;
}

/* Whether the entry is not to move. One that expired is marked, so that no packet revives it. */
static __always_inline bool stays_behind(const struct ct_key *key, struct ct_entry *e)
{
	const struct settings *settings = settings_get();
	__u64 state = ct_state(e);

	if (state & CT_DEAD)
		return true;
	return settings && is_idle(settings, key->proto, state, e->last, settings->hz) &&
	       __sync_val_compare_and_swap(&e->state, state, state | CT_DEAD) == state;
}

SEC("iter/bpf_map_elem")
int ct_move(struct bpf_iter__bpf_map_elem *ctx)
{
	struct ct_entry *e = ctx->value, copy;
	struct ct_key *found_key = ctx->key, key;
	long err;

	if (!found_key || !e)
		return 0;
	key = *found_key;
	if (stays_behind(&key, e) || ct_take(&copy, e) & CT_DEAD) {
		moves.ended++;
	} else {
		err = bpf_map_update_elem(&target_map, &key, &copy, BPF_NOEXIST);
		if (!err) {
			ct_end_too(&target_map, &key, e);
			moves.moved++;
		} else if (err == -EEXIST) {
			moves.present++;
		} else {
			if (ct_leave(&target_map, &key, e) == e)
				moves.left++;
			else
				moves.present++;
		}
	}
	write_when_due(ctx->meta->seq);
	return 0;
}

SEC("iter/bpf_map_elem")
int ct_collect(struct bpf_iter__bpf_map_elem *ctx)
{
	return walk(ctx, CT_WALK_EXPIRED);
}

SEC("iter/bpf_map_elem")
int ct_flush(struct bpf_iter__bpf_map_elem *ctx)
{
	return walk(ctx, CT_WALK_FILTERED);
}

SEC("iter/bpf_map_elem")
int ct_forget(struct bpf_iter__bpf_map_elem *ctx)
{
	return walk(ctx, CT_WALK_GONE);
}

/* The flags that stay once a packet has set them, while a flow lives. */
#define CT_LASTING (CT_REPLIED | CT_ASSURED | CT_NON_SYN | CT_FIN_ORIGIN | CT_FIN_REPLY | CT_RESET)

/* Bring what programs did to a flow after it was converted. A younger flow takes the place of an
 * older one with the same key. */
static __always_inline void merge(struct ct_entry *to, const struct ct_entry *from)
{
	__u64 state = ct_state(to), wanted = state | (from->state & CT_LASTING);
	__s32 younger = (__u32)(from->state >> 32) - (__u32)(state >> 32);
	int tries;

	if ((__s32)(from->last - to->last) > 0)
		to->last = from->last;
	if (younger > 0) {
		to->nat = from->nat;
		wanted = from->state;
	} else if (younger < 0) {
		return;
	}
	for (tries = 0; tries < 4 && state != wanted && !(state & CT_TERMINAL); tries++) {
		if (__sync_val_compare_and_swap(&to->state, state, wanted) == state)
			return;
		state = ct_state(to);
		wanted |= state & CT_LASTING;
	}
}

SEC("iter/bpf_map_elem")
int ct_bring(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct settings *settings = settings_get();
	struct ct_key *found_key = ctx->key, key;
	const void *from = ctx->value;
	struct ct_entry copy, *there;
	long err;

	if (!found_key || !from || !settings)
		return 0;
	key = *found_key;
	ct_convert(&copy, from, segments);
	if (copy.state & CT_TERMINAL ||
	    is_idle(settings, key.proto, copy.state, copy.last, settings->hz)) {
		moves.ended++;
		goto out;
	}
	err = bpf_map_update_elem(&target_map, &key, &copy, BPF_NOEXIST);
	if (!err) {
		moves.moved++;
	} else if (err == -EEXIST) {
		there = bpf_map_lookup_elem(&target_map, &key);
		if (there)
			merge(there, &copy);
		moves.present++;
	} else {
		moves.left++;
	}
out:
	write_when_due(ctx->meta->seq);
	return 0;
}

SEC("iter/bpf_map_elem")
int ct_dump(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct settings *settings = settings_get();
	const struct ct_key *key = ctx->key;
	const struct ct_entry *e = ctx->value;
	struct ct_record record = {};
	__u64 state;
	bool match;

	if (!key || !e || !settings)
		return 0;
	state = ct_state(e);
	match = !(state & CT_TERMINAL) && matches(key, state) &&
		!is_idle(settings, key->proto, state, e->last, 0);
	if (match && matched >= limit) {
		matched++;
		match = false;
	}
	if (!match && ++passed < stride)
		return 0;
	if (match) {
		record.key = *key;
		record.now = jiffies_now();
		record.entry = *e;
	}
	record.pause = !match;
	/* Without room for it the kernel ends the read, and comes here again. */
	if (bpf_seq_write(ctx->meta->seq, &record, sizeof(record)))
		return 0;
	matched += match;
	passed = 0;
	return 0;
}

static __always_inline __u64 count_current(void *outer)
{
	__u32 slot = TABLE_CURRENT;
	void *table = bpf_map_lookup_elem(outer, &slot);

	return table ? bpf_map_sum_elem_count(table) : 0;
}

/* Exact, and no walk: the kernel keeps count of every hash table. */
SEC("syscall")
int table_counts(struct counts *counts)
{
	counts->jiffies = bpf_jiffies64();
	counts->endpoint = count_current(&endpoint_map);
	counts->identity = count_current(&identity_map);
	counts->policy = count_current(&policy_map);
	counts->port = count_current(&port_map);
	counts->ct_tcp = count_current(&ct_tcp_map);
	counts->ct_any = count_current(&ct_any_map);
	counts->ct_new = count_current(&ct_new_map);
	counts->fragment = bpf_map_sum_elem_count((void *)&fragment_map);
	counts->frontend = count_current(&frontend_map);
	counts->backend = count_current(&backend_map);
	counts->maglev = count_current(&maglev_map);
	counts->affinity = count_current(&affinity_map);
	counts->sock = count_current(&sock_map);
	return 0;
}

char __license[] SEC("license") = "Dual BSD/GPL";
