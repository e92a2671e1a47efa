/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet on its way into the tunnel needs: the far end, and a sender. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "maps.h"
#include "parse.h"
#include "rewrite.h"

#define TUNNEL_TTL 64
#define ADDR_BITS 128

static __always_inline struct ipcache_entry *ipcache_lookup(const union addr *addr)
{
	struct ipcache_key key = { .prefix_len = ADDR_BITS, .addr = *addr };

	return table_lookup(&ipcache_map, &key);
}

static __always_inline int set_tunnel(struct __sk_buff *ctx, const struct ipcache_entry *remote)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = config.tunnel_vni,
		.tunnel_ttl = TUNNEL_TTL,
	};

	if (config.tunnel_underlay6) {
		__builtin_memcpy(key.remote_ipv6, &remote->tunnel_endpoint,
				 sizeof(key.remote_ipv6));
		return bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), BPF_F_TUNINFO_IPV6);
	}
	key.remote_ipv4 = bpf_ntohl(remote->tunnel_endpoint.w[3]);
	return bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), BPF_F_ZERO_CSUM_TX);
}

/*
 * All overlay devices have the router's address, so that each takes what comes
 * as its own. But one that sees its own address as the sender takes the frame
 * for its own echo: vxlan_set_mac() in the kernel.
 */
static __always_inline int set_overlay_macs(struct __sk_buff *ctx)
{
	struct ethhdr *eth = data_of(ctx);

	if ((void *)(eth + 1) > data_end_of(ctx))
		return -1;
	set_macs(eth, config.router_mac, config.router_mac);
	eth->h_source[ETH_ALEN - 1] ^= 0xff;
	return 0;
}
