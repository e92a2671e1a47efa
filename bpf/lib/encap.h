/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tunnel's far end for a packet on its way out. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "maps.h"
#include "parse.h"

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
