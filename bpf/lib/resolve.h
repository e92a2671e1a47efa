/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet is to become, and who its real ends are: the translation that
 * its flow has already, or, for a new flow, that of the service it asks for and
 * of masquerading. For the slow part of the programs; s->src is known.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "continue.h"
#include "encap.h"
#include "fragment.h"
#include "policy.h"
#include "related.h"
#include "service.h"

/*
 * The packet stays as it is, unless something else turns out. Its flow is known
 * from here on, if not by the fast path.
 */
static __always_inline void resolve_plain(struct scratch *s)
{
	struct packet *p = &s->packet;

	s->portless = p->fragment && !fragment_ports(p);
	s->nat.addr[0] = p->src;
	s->nat.addr[1] = p->dst;
	s->nat.port[0] = p->sport;
	s->nat.port[1] = p->dport;
	s->nat.service = 0;
	s->nat.backend = 0;
	s->translated = false;
	s->masqueraded = false;
	s->anew = false;
	s->related = false;
	s->unknown = false;
	if (!is_plain(p)) {
		flow_of(p, &s->flow);
		s->absent = false;
	}
}

/* Whether an end is somewhere in the cluster. Identities are there only where policies are. */
static __always_inline bool in_cluster(const struct end *end, const union addr *addr)
{
	return end->here || end->identity != IDENTITY_WORLD || ipcache_lookup(addr);
}

/*
 * Choose a backend, if the packet asks for a service. Returns why it gets none.
 * Not inlined, so that the verifier walks it once.
 */
__noinline int resolve_service(struct scratch *s)
{
	struct service_query q = {};
	const struct packet *p;
	enum reason reason;
	struct frontend *f;
	struct backend *b;

	if (!s)
		return DROP_INVALID_PACKET;
	p = &s->packet;
	q.frontend.addr = p->dst;
	q.frontend.port = p->dport;
	q.frontend.proto = p->l4_proto;
	q.client.client = q.source = p->src;
	q.sport = p->sport;
	q.ip4 = p->version == 4;
	q.here = s->src.here || s->src.identity == IDENTITY_HOST;
	f = frontend_lookup(&q.frontend);
	if (!f)
		return REASON_FORWARDED;
	q.scope = in_cluster(&s->src, &p->src) ? SCOPE_CLUSTER : SCOPE_OUTSIDE;
	b = service_select(f, &q, &reason);
	if (!b)
		return reason;
	s->nat.addr[1] = b->addr;
	s->nat.port[1] = b->port;
	s->nat.service = f->service;
	s->nat.backend = b->id;
	s->translated = true;
	return REASON_FORWARDED;
}

/* Whether what a pod sends there gets the node's address: it leaves the cluster. */
static __always_inline bool leaves_cluster(const struct scratch *s)
{
	struct native_key key = { .prefix_len = ADDR_BITS, .addr = s->nat.addr[1] };

	if (!(s->packet.version == 4 ? config.masquerade4 : config.masquerade6))
		return false;
	return !in_cluster(&s->dst, &key.addr) && !table_lookup(&native_map, &key);
}

/*
 * Whether the answers would not come by here with the client's own address as
 * their destination: out of the cluster, to a pod by its own service, or from
 * outside to a backend of another node.
 */
static __always_inline bool needs_masquerade(const struct scratch *s, enum hook hook)
{
	if (s->translated && addr_equal(&s->nat.addr[1], &s->packet.src))
		return true;
	if (hook == HOOK_FROM_POD)
		return leaves_cluster(s);
	return s->translated && !s->dst.here;
}

static __always_inline void masquerade(struct scratch *s)
{
	int i;

	for (i = 0; i < 4; i++)
		s->nat.addr[0].w[i] = s->packet.version == 4 ? config.masquerade_ip4.w[i] :
							       config.masquerade_ip6.w[i];
	s->masqueraded = true;
	s->translated = true;
}

/*
 * Whether a flow is so young that it need not keep its backend: a question over
 * UDP, or a connection that nobody answered. Its client may mean another one by
 * now, from the same port.
 */
static __always_inline bool is_young(const struct scratch *s, __u32 flags)
{
	if (!(flags & CT_SERVICE) || (flags & CT_ORIGIN) != s->flow.side || flags & CT_ASSURED)
		return false;
	return s->packet.l4_proto == IPPROTO_UDP ||
	       (is_opening(&s->packet) && !(flags & CT_REPLIED));
}

/*
 * What the entry of the packet's flow says, if it goes on. One that need not
 * keep its backend gets who serves now, and begins again if that is another one.
 */
static __always_inline bool resolve_known(struct scratch *s, enum reason *reason)
{
	const struct settings *settings = settings_get();
	bool embryonic;
	struct ct_entry *e = ct_known(s, &embryonic);
	__u32 flags;

	*reason = REASON_FORWARDED;
	s->unknown = !e;
	if (!e || !settings || !ct_continues(settings, e, s))
		return false;
	flags = ct_state(e);
	if (!(flags & CT_NAT) || nat_side(flags) != s->flow.side) {
		resolve_plain(s); /* it is no service's, whatever became one since */
		return true;
	}
	if (is_young(s, flags)) {
		*reason = resolve_service(s);
		if (*reason)
			return false;
		s->anew = s->nat.backend != e->nat.backend;
		if (s->anew)
			return false;
	}
	s->nat = e->nat;
	s->translated = true;
	return true;
}

/*
 * Resolve a packet that opens a connection to no pod and to no flow that is established,
 * by the services alone. Returns true when that is all: without masquerading, the entry of
 * a connection that is half open holds nothing that would not be found again.
 */
static __always_inline bool resolve_opening(struct scratch *s, enum hook hook, enum reason *reason)
{
	*reason = resolve_service(s);
	if (*reason || !s->translated)
		return *reason;
	identify(&s->dst, table_lookup(&endpoint_map, &s->nat.addr[1]), &s->nat.addr[1]);
	s->unknown = !needs_masquerade(s, hook);
	return s->unknown;
}

/* The part of resolve() that looks flows and services up. Not inlined, so that the verifier walks
 * it once. */
__noinline int resolve_asked(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
			     const struct endpoint *target)
{
	bool asks = config.services && !(target && !(target->flags & ENDPOINT_HOST));
	bool known = false;
	enum reason reason = REASON_FORWARDED;
	struct packet *p;

	if (!s)
		return DROP_INVALID_PACKET;
	p = &s->packet;
	if (is_icmp_error(p)) {
		s->related = find_related(ctx, s);
		known = true;
	} else {
		if (asks && is_opening(p) && !ct_lookup(&s->flow.key)) {
			s->absent = true;
			asks = false;
			if (resolve_opening(s, hook, &reason))
				return reason;
		}
		known = resolve_known(s, &reason);
	}
	/* What the node's own stack serves on a port of its own began with a packet that asked. */
	if (asks && !known && !s->anew && !reason &&
	    (!target || p->l4_proto != IPPROTO_TCP || is_opening(p)))
		reason = resolve_service(s);
	if (reason)
		return reason;
	if (s->translated)
		target = table_lookup(&endpoint_map, &s->nat.addr[1]);
	identify(&s->dst, target, &s->nat.addr[1]);
	if (!known && needs_masquerade(s, hook))
		masquerade(s);
	return REASON_FORWARDED;
}

/*
 * Fill s->nat, s->translated, s->flow and s->dst. target: the endpoint that the
 * packet is addressed to, or NULL. Returns 0, or why it cannot be served.
 */
static __always_inline enum reason resolve(struct __sk_buff *ctx, struct scratch *s, enum hook hook,
					   const struct endpoint *target)
{
	resolve_plain(s);
	/* Who opens a connection to a pod itself does not need its flow looked up. */
	if (!s->portless && !(target && !(target->flags & ENDPOINT_HOST) && is_opening(&s->packet)))
		return resolve_asked(ctx, s, hook, target);
	identify(&s->dst, target, &s->packet.dst);
	return REASON_FORWARDED;
}
