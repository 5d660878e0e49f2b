/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the parts of postcopy-ready-test
 */
#ifndef SWITCHOVER_POSTCOPY_READY_TESTS_H
#define SWITCHOVER_POSTCOPY_READY_TESTS_H

#include "switchover/rig.h"

#define SW_READY_SUITE "postcopy-ready"

/* A guest that works on memory, and both sides know about the hold */
#define SW_READY_GUEST                          \
    .healthy = true,                            \
    .device = &sw_virtio_blk,                   \
    .driver = &sw_nbd,                          \
    .kind = SW_KIND_ANY,                        \
    .dirty_mib_per_s = 50,                      \
    .dirty_mib = 32,                            \
    .postcopy = true

#define SW_READY_CASE                           \
    SW_READY_GUEST,                             \
    .ready = SW_BOTH

/* What is given to sw_add_case(): the end does it all */
void sw_run_ready_case(const void *opaque);

void sw_add_postcopy_cut_tests(void);
void sw_add_postcopy_input_tests(void);
void sw_add_postcopy_passes_tests(void);

#endif /* SWITCHOVER_POSTCOPY_READY_TESTS_H */
