/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* -nostdinc leaves out the compiler's own. */
#pragma once

#define bool _Bool
#define true 1
#define false 0
