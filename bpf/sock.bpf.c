// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Services at the socket: a process that names a service talks to a backend from
 * the start, and none of its packets has to be translated. All programs run in
 * the cgroup that holds the node's processes and pods, for TCP and UDP; other
 * protocols are left to the programs that see packets. An IPv4 address in an
 * IPv6 socket is what it is in an IPv4 one.
 *
 * sock_connect4, sock_connect6: cgroup/connect4 and 6, in connect().
 * sock_sendmsg4, sock_sendmsg6: cgroup/sendmsg4 and 6, when a UDP socket sends to
 * an address that the call names. The address of a service becomes a backend's.
 * They return 1, go on, or 0 with ECONNREFUSED where nobody serves and the client
 * is to be told. Where it is not, the call goes on as it is, and the packets get
 * no answer.
 *
 * sock_recvmsg4, sock_recvmsg6: cgroup/recvmsg4 and 6, when a UDP socket asks who
 * sent what it receives.
 * sock_peer4, sock_peer6: cgroup/getpeername4 and 6, in getpeername(). The backend
 * becomes the address that the process had named. They return 1.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/entry.h"
#include "lib/maps.h"
#include "lib/service.h"

#define ENOMEM 12
#define ECONNREFUSED 111
#define EHOSTUNREACH 113

enum sock_verdict {
	SOCK_REFUSE = 0,
	SOCK_GO_ON = 1,
};

/* The address in a call. Only the fields of the hook's own family may be touched. */
static __always_inline void read_addr(const struct bpf_sock_addr *ctx, bool ip6, union addr *addr)
{
	if (ip6) {
		addr->w[0] = ctx->user_ip6[0];
		addr->w[1] = ctx->user_ip6[1];
		addr->w[2] = ctx->user_ip6[2];
		addr->w[3] = ctx->user_ip6[3];
	} else {
		addr->w[0] = 0;
		addr->w[1] = 0;
		addr->w[2] = bpf_htonl(0xffff);
		addr->w[3] = ctx->user_ip4;
	}
}

static __always_inline void write_addr(struct bpf_sock_addr *ctx, bool ip6, const union addr *addr,
				       __be16 port)
{
	if (ip6) {
		ctx->user_ip6[0] = addr->w[0];
		ctx->user_ip6[1] = addr->w[1];
		ctx->user_ip6[2] = addr->w[2];
		ctx->user_ip6[3] = addr->w[3];
	} else {
		ctx->user_ip4 = addr->w[3];
	}
	ctx->user_port = port;
}

/* Whether services are this socket's affair at all. */
static __always_inline bool is_balanced(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return false;
	return !config.sock_host_only || bpf_get_netns_cookie(ctx) == config.host_netns;
}

/*
 * Remember what the socket had asked for. Most messages find that written
 * already; a backend that it gets by another frontend now is written anew.
 */
static __always_inline long remember(__u64 cookie, const struct service_query *q,
				     const struct frontend *f, const struct backend *b)
{
	struct sock_key key = { .cookie = cookie, .addr = b->addr, .port = b->port };
	struct sock_entry entry = { .addr = q->frontend.addr,
				    .port = q->frontend.port,
				    .service = f->service,
				    .backend = b->id };
	void *table = table_in(&sock_map, TABLE_CURRENT);
	struct sock_entry *known;
	long err;

	if (!table)
		return -ENOMEM;
	known = table_lookup_both(&sock_map, &key);
	if (known && addr_equal(&known->addr, &entry.addr) && known->port == entry.port &&
	    known->service == entry.service && known->backend == entry.backend)
		return 0;
	err = bpf_map_update_elem(table, &key, &entry, BPF_ANY);
	if (!known || err)
		table_count_insert(TABLE_SOCK, err);
	return err;
}

/* A socket that connects to an address itself is to see that one, not a frontend of before. */
static __always_inline void forget(struct bpf_sock_addr *ctx, const struct service_query *q)
{
	struct sock_key key = { .cookie = bpf_get_socket_cookie(ctx),
				.addr = q->frontend.addr,
				.port = q->frontend.port };
	struct sock_entry nothing = {};
	void *table = table_in(&sock_map, TABLE_CURRENT);

	if (!table || !table_lookup_both(&sock_map, &key))
		return;
	/* What the old table has stays there: the current one says that it is void. */
	if (table_in(&sock_map, TABLE_OLD))
		bpf_map_update_elem(table, &key, &nothing, BPF_ANY);
	else
		bpf_map_delete_elem(table, &key);
}

static __always_inline int refuse(int error)
{
	bpf_set_retval(-error);
	return SOCK_REFUSE;
}

/*
 * connects: the choice is for a connection, and any backend will do. The messages
 * of one socket go to the same one, while the list stays.
 */
static __always_inline int to_backend(struct bpf_sock_addr *ctx, bool ip6, bool connects)
{
	struct service_query q = { .scope = SCOPE_CLUSTER, .here = 1, .client = { .is_netns = 1 } };
	__u64 cookie, netns;
	struct frontend *f;
	enum reason reason;
	struct backend *b;

	if (!is_balanced(ctx))
		return SOCK_GO_ON;
	read_addr(ctx, ip6, &q.frontend.addr);
	q.frontend.port = ctx->user_port;
	q.frontend.proto = ctx->protocol;
	f = frontend_lookup(&q.frontend);
	if (!f) {
		if (connects)
			forget(ctx, &q);
		return SOCK_GO_ON;
	}
	cookie = bpf_get_socket_cookie(ctx);
	netns = bpf_get_netns_cookie(ctx);
	q.client.client.w[0] = netns;
	q.client.client.w[1] = netns >> 32;
	/* The hash's words: there is no source yet. */
	q.source.w[0] = cookie;
	q.source.w[1] = cookie >> 32;
	q.source.w[2] = connects ? bpf_get_prandom_u32() : 0;
	b = service_select(f, &q, &reason);
	/* Nothing on the way would stop what the node itself sends. */
	if (!b && reason == DROP_NO_LOCAL_BACKEND && netns == config.host_netns)
		return refuse(EHOSTUNREACH);
	if (!b)
		return config.reject && reason == DROP_NO_BACKEND ? refuse(ECONNREFUSED) :
								    SOCK_GO_ON;
	/* An answer from an address that a process did not name is none to it. */
	if (remember(cookie, &q, f, b) && ctx->protocol == IPPROTO_UDP)
		return refuse(ENOMEM);
	write_addr(ctx, ip6, &b->addr, b->port);
	return SOCK_GO_ON;
}

/*
 * Pods whose sockets are not translated any more may have some that were. What is
 * not in the table stays as it is.
 */
static __always_inline int to_frontend(struct bpf_sock_addr *ctx, bool ip6)
{
	struct sock_key key = {};
	struct sock_entry *entry;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return SOCK_GO_ON;
	key.cookie = bpf_get_socket_cookie(ctx);
	read_addr(ctx, ip6, &key.addr);
	key.port = ctx->user_port;
	entry = table_lookup_both(&sock_map, &key);
	if (entry && entry->port)
		write_addr(ctx, ip6, &entry->addr, entry->port);
	return SOCK_GO_ON;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return to_backend(ctx, false, true);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return to_backend(ctx, true, true);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return to_backend(ctx, false, false);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return to_backend(ctx, true, false);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return to_frontend(ctx, false);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return to_frontend(ctx, true);
}

SEC("cgroup/getpeername4")
int sock_peer4(struct bpf_sock_addr *ctx)
{
	return to_frontend(ctx, false);
}

SEC("cgroup/getpeername6")
int sock_peer6(struct bpf_sock_addr *ctx)
{
	return to_frontend(ctx, true);
}

char __license[] SEC("license") = "Dual BSD/GPL";
