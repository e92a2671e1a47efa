/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Types shared with Go. abi.bpf.c exports all of them; Go has no copy of its own. */
#pragma once

#include <stdbool.h>
#include <linux/types.h>

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d. Network byte order. */
union addr {
	__u8 b[16];
	__be32 w[4];
};

/* Programs, as they index the metrics map. */
enum hook {
	HOOK_FROM_POD,
	HOOK_FROM_NETDEV,
	HOOK_TO_NETDEV,
	HOOK_FROM_OVERLAY,
	HOOK_TO_OVERLAY,
	HOOK_COUNT,
};

/*
 * What became of a packet. Values below REASON_FIRST_DROP are not drops. The
 * values of the drops are the ones operators know from Cilium, where Cilium has
 * the reason; 240 and above are Placid's own.
 */
enum reason {
	REASON_FORWARDED = 0, /* redirected to its next device */
	REASON_TO_STACK = 20, /* left to the node's network stack */
	REASON_ANSWERED = 21, /* ARP or neighbour solicitation, answered here */
	REASON_IGNORED = 22, /* link-local chatter that no router forwards */

	REASON_FIRST_DROP = 130,
	DROP_INVALID_SOURCE = 132, /* source is not the pod's own, or is never routed */
	DROP_INVALID_PACKET = 134, /* truncated or inconsistent L3 header */
	DROP_INVALID_L4 = 135, /* truncated or inconsistent L4 header */
	DROP_FRAG_NEEDED = 136, /* larger than the next link takes */
	DROP_UNKNOWN_L3 = 139, /* neither IPv4, IPv6 nor ARP */
	DROP_WRITE_ERROR = 141, /* a helper refused to change the packet */
	DROP_NO_TUNNEL_KEY = 147, /* came from the overlay without metadata */
	DROP_UNKNOWN_TARGET = 150, /* destination that is never forwarded */
	DROP_STALE_TARGET = 151, /* address of this node's pods that no pod has */
	DROP_INVALID_EXT_HEADER = 156, /* IPv6 extension headers */
	DROP_NO_TUNNEL_ENDPOINT = 160, /* no node owns the destination */
	DROP_HOST_UNREACHABLE = 164, /* by an unreachable route, answered as such */
	DROP_FIB_FAILED = 169, /* no route */
	DROP_VLAN = 182, /* tagged frame from a pod */
	DROP_INVALID_VNI = 183, /* another overlay's network identifier */
	DROP_TTL_EXCEEDED = 196,
	DROP_INVALID_MAC = 240, /* source MAC is not the pod's own */
	DROP_INVALID_ARP = 241, /* malformed, or it speaks for another address */
	DROP_INVALID_ND = 242, /* the same of a neighbour solicitation */

	REASON_COUNT = 256,
};

enum endpoint_flags {
	ENDPOINT_HOST = 1 << 0, /* an address of this node itself */
	ENDPOINT_SHAPED = 1 << 1, /* deliver through the host device's queue */
	ENDPOINT_LINK_LOCAL = 1 << 2, /* valid as a source towards the gateway only */
};

struct endpoint_key {
	union addr addr;
};

/* Who has an address of this node. */
struct endpoint {
	__u32 ifindex; /* host side of the pod's pair; 0 with HOST */
	__u32 flags; /* enum endpoint_flags */
	__u32 id;
	__u8 mac[6]; /* the pod's side */
	__u16 pad;
};

struct ipcache_key {
	__u32 prefix_len; /* bits, counted in the 128-bit form */
	union addr addr;
};

/* Which node has a range of addresses. */
struct ipcache_entry {
	union addr tunnel_endpoint;
	__u32 flags; /* none yet */
};

/* Slots of an outer map: every sized table is reached through one. */
enum table_slot {
	TABLE_CURRENT,
	TABLE_OLD,
	TABLE_SLOTS,
};

struct metrics_value {
	__u64 packets;
	__u64 bytes;
};

struct icmp_budget {
	__u64 refilled_at; /* ns of the coarse monotonic clock */
	__u64 tokens;
};

/* Load-time constants. Written by the agent before the program is verified. */
struct config {
	union addr router_ip4; /* source of ICMP errors: this node's addresses */
	union addr router_ip6;
	__u8 router_mac[6]; /* of every pod's gateway and of the overlay device */
	__u16 pod_mtu; /* of pod devices, bytes of L3 */
	__u16 overlay_mtu; /* inside the tunnel, bytes of L3 */
	__u8 tunnel; /* 1: routing-mode tunnel */
	__u8 tunnel_underlay6; /* 1: tunnel endpoints are IPv6 */
	__u32 overlay_ifindex;
	__u32 tunnel_vni;
};
