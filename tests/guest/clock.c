/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock, which stands still while the guest is stopped
 */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "clock.h"

int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

void sleep_until_ns(int64_t when)
{
    struct timespec t = {
        .tv_sec = when / NSEC_PER_SEC,
        .tv_nsec = when % NSEC_PER_SEC,
    };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
        continue;
    }
}

int64_t next_beat_ns(int64_t due, int64_t period)
{
    int64_t late = now_ns() - due;

    return due + (late > 0 ? late / period + 1 : 1) * period;
}
