// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What BPF_PROG_TEST_RUN runs to measure a program. restore gives the packet
 * its headers back, which the program before has changed, and tail-calls the
 * program; empty in its place tells what that costs. Never attached.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define HEADERS_MAX 128 /* a power of two */

/* Ethernet and IPv6 headers: all that a program changes of a packet it forwards. */
struct headers {
	__u64 words[6];
	__u32 half;
	__u16 quarter;
	__u16 pad;
};

_Static_assert(sizeof(struct headers) == sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + 2,
	       "headers must be as long as those of IPv6");

/* Set once, before the first run. More than one: each packet gets the next. */
struct headers headers[HEADERS_MAX];
__u32 headers_count = 1;
__u32 tunnel_vni; /* the packet came out of this tunnel; 0 for none */
__u32 turn;
__u32 peer_ifindex; /* host side of the pod that peer sends to */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target_map SEC(".maps");

struct key {
	__u64 words[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, struct key);
} hash_map SEC(".maps");

SEC("tcx/ingress")
int restore(struct __sk_buff *ctx)
{
	struct bpf_tunnel_key tunnel = { .tunnel_id = tunnel_vni };
	void *data, *end;
	struct headers *h;
	__u32 now = 0;
	int i;

	/* Before the packet: a helper ends what is known of its bounds. */
	if (tunnel_vni && bpf_skb_set_tunnel_key(ctx, &tunnel, sizeof(tunnel), 0))
		return TC_ACT_SHOT;
	if (headers_count > 1) {
		now = turn++;
		if (turn >= headers_count)
			turn = 0;
	}
	h = &headers[now & (HEADERS_MAX - 1)];
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) > end)
		return TC_ACT_SHOT;
#pragma unroll
	for (i = 0; i < 6; i++)
		((__u64 *)data)[i] = h->words[i];
	*(__u32 *)(data + sizeof(h->words)) = h->half;
	*(__u16 *)(data + sizeof(h->words) + sizeof(h->half)) = h->quarter;
	bpf_tail_call(ctx, &target_map, 0);
	return TC_ACT_SHOT;
}

SEC("tcx/ingress")
int empty(struct __sk_buff *ctx)
{
	return TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int hash_lookup(struct __sk_buff *ctx)
{
	struct key key = { .words = { 1, 1 } };

	return bpf_map_lookup_elem(&hash_map, &key) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* What any way from pod to pod by bpf_redirect_peer costs at least. */
SEC("tcx/ingress")
int peer(struct __sk_buff *ctx)
{
	return bpf_redirect_peer(peer_ifindex, 0);
}

char __license[] SEC("license") = "Dual BSD/GPL";
