// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What BPF_PROG_TEST_RUN runs to measure a program. restore gives the packet
 * its headers back, which the program before has changed, and tail-calls the
 * program; empty in its place tells what that costs. Never attached.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEADERS_MAX 128 /* a power of two */
#define TCP_WORDS 5

/*
 * All that a program changes of a packet: Ethernet and IPv6 headers, which with
 * IPv4 are those of TCP too, and of IPv6 the TCP header behind them.
 */
struct headers {
	__u64 words[6];
	__u32 half;
	__u16 quarter;
	__u16 pad;
	__u32 tcp[TCP_WORDS];
	__u32 pad2;
};

_Static_assert(__builtin_offsetof(struct headers, pad) ==
		       sizeof(struct ethhdr) + sizeof(struct ipv6hdr),
	       "headers must be as long as those of IPv6");

/* Set once, before the first run. More than one: each packet gets the next. */
struct headers headers[HEADERS_MAX];
__u32 headers_count = 1;
__u32 tunnel_vni; /* the packet came out of this tunnel; 0 for none */
__u32 turn;
__u32 peer_ifindex; /* host side of the pod that peer sends to */

/*
 * Flows of one pair of ends, each packet the next one's: the low FLOW_BITS of a
 * flow's number are in the source port, the others are added to the target port.
 */
#define FLOW_BITS 14
#define FLOW_PORT (1 << FLOW_BITS) /* the first source port */
__u32 flow_count; /* 0: the ports are those of the frame */
__u32 flow; /* the next one's number */
__u16 flow_target; /* the first target port, host order */
__u8 flow_reply; /* 1: packets come from the target port */
__u8 flow_ip6; /* 1: frames are IPv6 */
/* Not 0: a flow's target is one of so many addresses that follow each other. */
__u32 flow_addrs;
__u16 flow_addr; /* the lower half of the first one, host order */

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

struct long_key {
	__u64 words[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct long_key);
	__type(value, struct key);
} long_hash_map SEC(".maps");

/* As wide as the ipcache's keys. */
struct prefix_key {
	__u32 prefix_len;
	__u32 words[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct prefix_key);
	__type(value, __u64);
} lpm_map SEC(".maps");

/* Gives the packet the ports of the next flow, and its target. Returns 0 or TC_ACT_SHOT. */
static __always_inline int next_flow(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__be16 source, target, *ports, *addr;
	__u32 now = flow;

	flow = now + 1 < flow_count ? now + 1 : 0;
	source = bpf_htons(FLOW_PORT | (now & (FLOW_PORT - 1)));
	target = bpf_htons(flow_target + (now >> FLOW_BITS));
	ports = data + sizeof(struct ethhdr) +
		(flow_ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if ((void *)(ports + 2) > end)
		return TC_ACT_SHOT;
	ports[0] = flow_reply ? target : source;
	ports[1] = flow_reply ? source : target;
	if (!flow_addrs)
		return 0;
	/* The target is the last of both headers. */
	addr = data + sizeof(struct ethhdr) +
	       (flow_ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) - sizeof(*addr);
	if ((void *)(addr + 1) > end)
		return TC_ACT_SHOT;
	*addr = bpf_htons(flow_addr + now % flow_addrs);
	return 0;
}

/* Gives an IPv6 packet its TCP header back. Returns 0 or TC_ACT_SHOT. */
static __always_inline int restore_tcp(struct __sk_buff *ctx, const struct headers *h)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *tcp = data + sizeof(struct ethhdr) + sizeof(struct ipv6hdr);
	int i;

	if (tcp + sizeof(h->tcp) > end)
		return TC_ACT_SHOT;
#pragma unroll
	for (i = 0; i < TCP_WORDS; i++)
		((__u32 *)tcp)[i] = h->tcp[i];
	return 0;
}

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
	if (flow_ip6 && restore_tcp(ctx, h))
		return TC_ACT_SHOT;
	if (flow_count && next_flow(ctx))
		return TC_ACT_SHOT;
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

SEC("tcx/ingress")
int long_hash_lookup(struct __sk_buff *ctx)
{
	struct long_key key = { .words = { 1, 1, 1, 1, 1 } };

	return bpf_map_lookup_elem(&long_hash_map, &key) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

SEC("tcx/ingress")
int lpm_lookup(struct __sk_buff *ctx)
{
	struct prefix_key key = { .prefix_len = 128, .words = { 1, 1, 1, 1 } };

	return bpf_map_lookup_elem(&lpm_map, &key) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* What any way from pod to pod by bpf_redirect_peer costs at least. */
SEC("tcx/ingress")
int peer(struct __sk_buff *ctx)
{
	return bpf_redirect_peer(peer_ifindex, 0);
}

char __license[] SEC("license") = "Dual BSD/GPL";
