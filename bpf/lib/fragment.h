/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments but the first have no ports. The first leaves its own for them: it
 * decides, they follow. Call it when the source is known to be no lie.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"
#include "parse.h"
#include "settings.h"

/* Seconds that the parts of a packet may be apart: RFC 8200, 4.5. */
#define FRAGMENT_SECONDS 60

/*
 * Give a later fragment the ports, and the protocol, of its first. Returns false when the first was
 * not seen: it got lost, or comes behind.
 */
__noinline int fragment_ports(struct packet *p)
{
	const struct settings *settings = settings_get();
	struct fragment_ports *known, first = {};
	struct fragment_key key = {};

	if (!p)
		return false;
	key.src = p->src;
	key.dst = p->dst;
	key.id = p->fragment_id;
	key.proto = p->version == 4 ? p->l4_proto : 0;
	if (!p->later_fragment) {
		first.proto = p->l4_proto;
		first.seen = jiffies_now();
		first.port[0] = p->sport;
		first.port[1] = p->dport;
		bpf_map_update_elem(&fragment_map, &key, &first, BPF_ANY);
		return true;
	}
	known = bpf_map_lookup_elem(&fragment_map, &key);
	if (!known || !settings ||
	    jiffies_since(settings, known->seen) > FRAGMENT_SECONDS * settings->hz)
		return false;
	p->sport = known->port[0];
	p->dport = known->port[1];
	/* IPv6 may have more headers in the first. */
	p->l4_proto = known->proto;
	return true;
}
