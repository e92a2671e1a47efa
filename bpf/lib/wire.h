/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Wire formats whose kernel headers (linux/icmp.h, linux/if_arp.h) need a libc. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/types.h>

/* RFC 792 and RFC 4443: the same eight bytes. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest; /* IPv4: the next hop's MTU in the lower half; IPv6: all of it */
};

enum icmp4 {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_ECHO = 8,
	ICMP4_TIME_EXCEEDED = 11,
	ICMP4_PARAMETER_PROBLEM = 12,
	ICMP4_CODE_HOST = 1,
	ICMP4_CODE_PORT = 3,
	ICMP4_CODE_FRAG_NEEDED = 4,
};

enum icmp6 {
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_PARAMETER_PROBLEM = 4,
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	ICMP6_FIRST_INFORMATIONAL = 128,
	ICMP6_NEIGHBOUR_SOLICITATION = 135,
	ICMP6_NEIGHBOUR_ADVERTISEMENT = 136,
	ICMP6_CODE_ADDRESS = 3,
	ICMP6_CODE_PORT = 4,
};

/* What an ICMPv6 checksum covers besides the message: RFC 8200, 8.1. */
struct ipv6_pseudo {
	struct in6_addr src;
	struct in6_addr dst;
	__be32 len;
	__be32 proto;
};

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

/* RFC 826 for Ethernet and IPv4. */
struct arp_packet {
	struct ethhdr eth;
	__be16 hw_type;
	__be16 proto;
	__u8 hw_len;
	__u8 proto_len;
	__be16 op;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
} __attribute__((packed));

#define ND_OPTION_SOURCE_MAC 1
#define ND_OPTION_TARGET_MAC 2
#define ND_SOLICITED_OVERRIDE 0x60000000
#define ND_HOP_LIMIT 255
