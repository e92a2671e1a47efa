/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Bob Jenkins' lookup3, as the kernel's jhash2() has it: the same words give the same hash. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define JHASH_INITVAL 0xdeadbeef

static __always_inline __u32 rol32(__u32 word, __u32 shift)
{
	return word << shift | word >> (32 - shift);
}

/* Six words. */
static __always_inline __u32 jhash6(const __u32 *k, __u32 seed)
{
	__u32 a, b, c;

	a = b = c = JHASH_INITVAL + (6 << 2) + seed;
	a += k[0];
	b += k[1];
	c += k[2];

	a -= c;
	a ^= rol32(c, 4);
	c += b;
	b -= a;
	b ^= rol32(a, 6);
	a += c;
	c -= b;
	c ^= rol32(b, 8);
	b += a;
	a -= c;
	a ^= rol32(c, 16);
	c += b;
	b -= a;
	b ^= rol32(a, 19);
	a += c;
	c -= b;
	c ^= rol32(b, 4);
	b += a;

	a += k[3];
	b += k[4];
	c += k[5];

	c ^= b;
	c -= rol32(b, 14);
	a ^= c;
	a -= rol32(c, 11);
	b ^= a;
	b -= rol32(a, 25);
	c ^= b;
	c -= rol32(b, 16);
	a ^= c;
	a -= rol32(c, 4);
	b ^= a;
	b -= rol32(a, 14);
	c ^= b;
	c -= rol32(b, 24);
	return c;
}
