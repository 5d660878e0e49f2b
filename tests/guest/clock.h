/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock, which stands still while the guest is stopped
 */
#ifndef GUEST_CLOCK_H
#define GUEST_CLOCK_H

#include <stdint.h>

#define NSEC_PER_SEC 1000000000LL
#define NSEC_PER_MSEC 1000000LL

int64_t now_ns(void);

void sleep_until_ns(int64_t when);

/* The next multiple of @period after @due that is not past. */
int64_t next_beat_ns(int64_t due, int64_t period);

#endif
