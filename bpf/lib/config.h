/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "types.h"

/* Set at load; the verifier removes the branches that it rules out. */
volatile const struct config config;
