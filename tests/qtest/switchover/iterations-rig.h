/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what the parts of iterations-test share
 */
#ifndef SWITCHOVER_ITERATIONS_RIG_H
#define SWITCHOVER_ITERATIONS_RIG_H

#include "switchover/disk-config.h"
#include "switchover/rig.h"

/* A source that sent nothing for this long waits */
#define SW_STILL_MS 400

/* A disk that works, and nothing but the parameters of the case */
#define SW_ITERATIONS_GUEST                     \
    .healthy = true,                            \
    .device = &sw_virtio_blk,                   \
    .driver = &sw_nbd,                          \
    .kind = SW_KIND_ANY,                        \
    .off = true

/* It also writes to memory */
#define SW_ITERATIONS_BUSY_GUEST                \
    SW_ITERATIONS_GUEST,                        \
    .dirty_mib_per_s = 50,                      \
    .dirty_mib = 32

/* Waits until @look has said the same for SW_STILL_MS */
void sw_wait_still(SwRig *rig, int64_t (*look)(SwRig *), const char *what);
/* Waits until the source sends nothing any more */
void sw_wait_blocked(SwRig *rig);

/* Neither the guest nor the monitor was silent since @from_us */
void sw_expect_unnoticed(SwRig *rig, int64_t from_us);

/* A test for each case, which is its end with its rig */
void sw_add_iterations_cases(const SwCase *cases, unsigned n);

#endif /* SWITCHOVER_ITERATIONS_RIG_H */
