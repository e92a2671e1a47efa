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
	HOOK_TO_POD,
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
	/* Counted beside what became of the packet. */
	REASON_AUDITED = 23, /* a flow that policy would drop, were it not in audit mode */
	REASON_CT_FULL = 24, /* a flow stays embryonic: the established table is full */
	REASON_CT_RACED = 25, /* went on without an entry: another CPU had its key at that moment */

	REASON_FIRST_DROP = 130,
	DROP_INVALID_SOURCE = 132, /* source is not the pod's own, or is never routed */
	DROP_POLICY = 133, /* not allowed by any policy that isolates the pod */
	DROP_INVALID_PACKET = 134, /* truncated or inconsistent L3 header */
	DROP_INVALID_L4 = 135, /* truncated or inconsistent L4 header */
	DROP_FRAG_NEEDED = 136, /* larger than the next link takes */
	DROP_UNKNOWN_L3 = 139, /* neither IPv4, IPv6 nor ARP */
	DROP_WRITE_ERROR = 141, /* a helper refused to change the packet */
	DROP_NO_TUNNEL_KEY = 147, /* came from the overlay without metadata */
	DROP_UNKNOWN_TARGET = 150, /* destination that is never forwarded */
	DROP_STALE_TARGET = 151, /* address of this node's pods that no pod has */
	DROP_INVALID_EXT_HEADER = 156, /* IPv6 extension headers */
	DROP_FRAGMENT_UNKNOWN = 157, /* a later fragment whose first was not seen */
	DROP_NO_BACKEND = 158, /* an address of services, but nobody serves there */
	DROP_NO_TUNNEL_ENDPOINT = 160, /* no node owns the destination */
	DROP_HOST_UNREACHABLE = 164, /* by an unreachable route, answered as such */
	DROP_NAT_EXHAUSTED = 167, /* every port towards that destination is taken */
	DROP_FIB_FAILED = 169, /* no route */
	DROP_SOURCE_RANGE = 177, /* the service's source ranges leave the client out */
	DROP_POLICY_DENY = 181, /* a rule that denies is about it */
	DROP_VLAN = 182, /* tagged frame from a pod */
	DROP_INVALID_VNI = 183, /* another overlay's network identifier */
	DROP_TTL_EXCEEDED = 196,
	DROP_INVALID_MAC = 240, /* source MAC is not the pod's own */
	DROP_INVALID_ARP = 241, /* malformed, or it speaks for another address */
	DROP_INVALID_ND = 242, /* the same of a neighbour solicitation */
	DROP_NAT_CONFLICT = 243, /* a flow that is translated has these very ends */
	DROP_NO_LOCAL_BACKEND = 244, /* nobody serves on this node, elsewhere somebody does */

	REASON_COUNT = 256,
};

enum endpoint_flags {
	ENDPOINT_HOST = 1 << 0, /* an address of this node itself */
	ENDPOINT_SHAPED = 1 << 1, /* deliver through the host device's queue */
	ENDPOINT_LINK_LOCAL = 1 << 2, /* valid as a source towards the gateway only */
	ENDPOINT_AUDIT_INGRESS = 1 << 3, /* count what the ingress set would drop */
	ENDPOINT_AUDIT_EGRESS = 1 << 4,
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
	__u32 identity;
	__u32 pad2;
	__u64 ingress_set; /* policy sets; POLICY_SET_OPEN where nothing isolates */
	__u64 egress_set;
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

/* Identities that are no pod's labels: facts of the address. Cilium's numbers. */
enum identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_INIT = 5, /* a pod whose labels have no number yet */
	IDENTITY_REMOTE_NODE = 6,
};

struct identity_key {
	union addr addr;
};

/* Who has an address of another node: a pod's identity, or the node's own. */
struct identity_entry {
	__u32 identity;
	__u32 pad;
};

struct cidr_key {
	__u32 prefix_len; /* bits, counted in the 128-bit form */
	union addr addr;
};

/* A prefix that a policy set in use speaks of, as a peer. */
struct cidr_entry {
	__u64 peer;
};

enum policy_constants {
	POLICY_SET_OPEN = 0, /* all is allowed */
	POLICY_SET_CLOSED = 1, /* nothing is; it has no entries */
	POLICY_PEER_ANY = 0,
	POLICY_PORTS_ALL = 0, /* allows everything */
	POLICY_RANGES = 16, /* of one port_list */
	POLICY_LISTS = 16, /* of one chain */
};

struct policy_key {
	__u64 set;
	__u64 peer; /* an identity, a cidr_entry's peer, or any */
};

/* What is allowed with the peer, and what is denied. */
struct policy_entry {
	__u64 ports; /* key of a port_list, or all */
};

enum port_flags {
	PORT_DENY = 1 << 0, /* denied, whatever another range or entry allows */
	PORT_OUTSIDE = 1 << 1, /* counts only for a peer that is no pod and no node */
};

struct port_range {
	__u16 first; /* host order, both included; of ICMP a type */
	__u16 last;
	__u8 proto; /* 0: every one */
	__u8 flags; /* enum port_flags */
	__u8 pad[2];
};

/* Ranges that deny come before all others of a chain: the first that fits decides. */
struct port_list {
	__u64 more; /* key of the list that goes on, or 0 */
	__u32 count;
	__u32 pad;
	struct port_range ranges[POLICY_RANGES];
};

/*
 * A flow, the same for both of its directions: which end is side 0 follows from
 * the ends alone (flow_of() in flow.h), not from who began. Ports of ICMP
 * echo: the identifier on the side that asks, 0 on the other. 0 where the
 * protocol has none.
 */
struct ct_key {
	union addr addr[2];
	__be16 port[2];
	__u8 proto;
	__u8 pad[3];
};

/* The lower half of ct_entry.state. */
enum ct_flags {
	CT_ORIGIN = 1 << 0, /* side that sent the first packet */
	CT_REPLIED = 1 << 1, /* the other side answered */
	CT_ASSURED = 1 << 2, /* the origin went on after that: a real conversation */
	CT_NON_SYN = 1 << 3, /* TCP: a segment without SYN was seen */
	CT_FIN_ORIGIN = 1 << 4, /* TCP: the origin closed its direction */
	CT_FIN_REPLY = 1 << 5, /* the other side did */
	CT_RESET = 1 << 6, /* TCP: either side ended it at once */
	CT_AUDITED = 1 << 7, /* policy would have dropped it */
	CT_FROM_HOST = 1 << 8, /* the node itself began it: always allowed */
	CT_NAT = 1 << 9, /* packets of one side are translated: ct_entry.nat */
	CT_NAT_SIDE = 1 << 10, /* that side, of the key */
	CT_SERVICE = 1 << 11, /* a service chose its target */
	CT_DEAD = 1 << 30, /* terminal: being collected */
	CT_MOVED = 1U << 31, /* terminal: lives on in the current table */
};

/* How packets to one side of a flow leave. */
enum way_kind {
	WAY_UNKNOWN, /* not found out yet, or not to be remembered */
	WAY_STACK, /* the node's own */
	WAY_PEER, /* a pod, into its namespace */
	WAY_DEVICE, /* a pod with an ingress limit, through its host side's queue */
	/* Looked up again from time to time. */
	WAY_NETWORK, /* by a native device */
	WAY_TUNNEL, /* by the overlay device */
};

struct ct_way {
	__u32 ifindex; /* of a pod: its host side, also where its packets come from */
	__u32 found_at; /* jiffies; ways to the network are looked up again */
	__u16 mtu; /* bytes of L3 */
	__u8 kind; /* enum way_kind */
	__u8 pad;
	__u8 dmac[6]; /* of a pod: its own */
	__u8 smac[6];
};

/*
 * What a translated packet gets. A flow that is translated has two entries, one
 * for each of its faces: the origin's packets meet the one whose key is what the
 * origin sent (client, frontend), the answers the one whose key is what the
 * target got (client or node, backend). Each entry holds the ends of the other,
 * as source and destination of the packets that meet it.
 */
struct ct_nat {
	union addr addr[2]; /* source, destination */
	__be16 port[2];
	__u32 service; /* 0: only its source is masqueraded */
	__u32 backend;
	__u32 synced; /* jiffies when the twin was last told */
};

/*
 * What is known of a flow. Laid out so that the table can be moved while
 * packets write to it: state changes by compare-and-swap only, and not at all
 * once it has CT_MOVED or CT_DEAD; all other fields may be written at any time
 * and be lost without harm.
 */
struct ct_entry {
	__u64 state; /* jiffies of birth in the upper half, enum ct_flags in the lower */
	__u32 last; /* jiffies when it last carried a packet */
	__u32 epoch; /* of the settings when it was judged */
	__u32 identity[2]; /* of the sides: of a translated flow, its real ends' */
	struct ct_way way[2]; /* to the sides: the same */
	struct ct_nat nat; /* with CT_NAT; not changed once the entry is in a table */
};

/* Kinds of timeouts. */
enum ct_timeout {
	CT_TIMEOUT_TCP, /* established */
	CT_TIMEOUT_TCP_SYN, /* half open */
	CT_TIMEOUT_TCP_FIN, /* closing */
	CT_TIMEOUT_ANY, /* everything but TCP */
	CT_TIMEOUT_SERVICE_TCP, /* the same of flows to services */
	CT_TIMEOUT_SERVICE_ANY,
	CT_TIMEOUTS,
};

/* What changes while programs run. One entry, written by the agent. */
struct settings {
	__u32 epoch; /* moves when a permission may have been taken away */
	__u16 has_cidrs; /* policy sets in use speak of prefixes */
	__u16 has_denies; /* lists of ports have ranges that deny */
	__u32 hz; /* jiffies a second */
	__u32 timeout[CT_TIMEOUTS]; /* jiffies; enum ct_timeout */
};

/*
 * An address and port that services are reached at. With port and protocol 0: an
 * address of services, whatever the port.
 */
struct frontend_key {
	union addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

/* Where a client is: services may have other backends for each. */
enum frontend_scope {
	SCOPE_OUTSIDE, /* not in the cluster */
	SCOPE_CLUSTER, /* a pod or a node */
	SCOPES,
};

enum frontend_flags {
	FRONTEND_CLOSED = 1 << 0, /* nothing but an address of services: port 0 */
	FRONTEND_AFFINITY = 1 << 1, /* a client keeps its backend */
	FRONTEND_SOURCE_RANGES = 1 << 2, /* outside clients must be in source_range_map */
	FRONTEND_MAGLEV = 1 << 3, /* for clients outside, by maglev_map */
	FRONTEND_CLUSTER_ONLY = 1 << 4, /* clients outside are not served */
	/* Nobody is there, but elsewhere there is: drop without an answer, so that the client asks
	 * there. */
	FRONTEND_SILENT_OUTSIDE = 1 << 5,
	FRONTEND_SILENT_CLUSTER = 1 << 6,
};

/* Backends in slots 0 to count - 1 of backend_map. A list is written before a
 * frontend has it, and never changed. */
struct backend_list {
	__u32 id;
	__u32 count;
};

struct frontend {
	__u32 service; /* id of the service's port; never 0 */
	__u32 flags; /* enum frontend_flags */
	__u32 affinity; /* seconds that a client keeps its backend */
	__u32 pad;
	struct backend_list list[SCOPES];
};

/* Slots of a list; of one with affinity also its backends by their ids. */
enum backend_constants {
	BACKEND_BY_ID = 1U << 31, /* in slot: the rest is a backend's id */
};

struct backend_key {
	__u32 list;
	__u32 slot;
};

struct backend {
	union addr addr;
	__be16 port;
	__u16 pad;
	__u32 id;
};

/* A client of a service whose backend is remembered: its address, or a network namespace. */
struct affinity_key {
	union addr client;
	__u32 service;
	__u32 is_netns; /* client.w[0..1] is a namespace's cookie */
};

struct affinity_entry {
	__u32 backend;
	__u32 last; /* jiffies */
};

/* Clients that may reach a service from outside. */
struct source_range_key {
	__u32 prefix_len; /* bits of the rest: 32 and those of the 128-bit form */
	__u32 service;
	union addr addr;
};

/* Destinations that pods reach with their own address. */
struct native_key {
	__u32 prefix_len; /* bits, counted in the 128-bit form */
	union addr addr;
};

/* A socket's connection or message to a backend that a service chose. */
struct sock_key {
	__u64 cookie; /* of the socket */
	union addr addr; /* the backend's */
	__be16 port;
	__u16 pad;
	__u32 pad2;
};

struct sock_entry {
	union addr addr; /* the frontend's */
	__be16 port;
	__u16 pad;
	__u32 service;
	__u32 backend;
	__u32 pad2;
};

/* A fragmented packet. RFC 791 counts its protocol in, RFC 8200 does not. */
struct fragment_key {
	union addr src;
	union addr dst;
	__be32 id;
	__u8 proto; /* 0 for IPv6 */
	__u8 pad[3];
};

/* What its first fragment said. */

struct fragment_ports {
	__be16 port[2]; /* source, destination */
	__u32 seen; /* jiffies */
	__u8 proto; /* of the last header */
	__u8 pad[3];
};

/* Slots of an outer map: every sized table is reached through one. */
enum table_slot {
	TABLE_CURRENT,
	TABLE_OLD,
	TABLE_SLOTS,
};

/* Tables that programs write to, as they are counted. */
enum table_id {
	TABLE_CT_TCP,
	TABLE_CT_ANY,
	TABLE_CT_NEW,
	TABLE_AFFINITY,
	TABLE_SOCK,
	TABLE_IDS,
};

/* What became of attempts to insert into a table, since the map was made. */
struct table_stats {
	__u64 inserted;
	__u64 moved_on; /* of those, into another table: flows that are established */
	__u64 full; /* there was no room */
	__u64 busy; /* another CPU held the bucket's lock */
	__u64 failed; /* for any other cause: no memory, above all */
};

enum layout_constants {
	CT_SEGMENTS = 24, /* the most that a conversion consists of */
};

/* Bytes of a ct_entry of another layout that become some of this one's. */
struct ct_segment {
	__u16 from;
	__u16 to;
	__u16 len; /* 0: there are no more */
	__u16 pad;
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
	__u32 way_jiffies; /* how long a flow remembers a way by the routing table */
	__u32 sync_jiffies; /* how long the twin of a translated flow's entry may lag */
	/* Services and translation. */
	__u8 services; /* 1: kube-proxy-replacement */
	__u8 reject; /* 1: where nobody serves, the client is told */
	__u8 masquerade4; /* 1: what pods send out of the cluster gets the node's address */
	__u8 masquerade6;
	__u16 nat_port_first; /* ports that translated sources get */
	__u16 nat_ports; /* how many */
	__u32 maglev_size; /* entries of a Maglev table, M */
	__u32 hash_seed; /* of the choice of backends */
	__u32 maglev_seed4; /* of the hash of packets, by family of the client */
	__u32 maglev_seed6;
	union addr masquerade_ip4; /* what translated sources get */
	union addr masquerade_ip6;
	__u64 host_netns; /* cookie of the node's network namespace */
	__u8 sock_host_only; /* 1: sockets of pods are left to packets' translation */
	__u8 foreign; /* 1: flows may be in tables of another layout: ct_*_foreign_map */
	__u8 foreign_pad[6];
	struct ct_segment segments[CT_SEGMENTS]; /* from that layout to this one's */
};
