/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the parts of postcopy-ready-test
 */
#ifndef SWITCHOVER_POSTCOPY_READY_TESTS_H
#define SWITCHOVER_POSTCOPY_READY_TESTS_H

#include "switchover/rig.h"

#define SW_READY_SUITE "postcopy-ready"

#define SW_READY_WITH(model)                    \
    .healthy = true,                            \
    .device = model,                            \
    .kind = SW_KIND_ANY,                        \
    .postcopy = true

#define SW_READY_BASE                           \
    SW_READY_WITH(&sw_virtio_blk)

#define SW_READY_MEMORY                         \
    .dirty_mib_per_s = 50,                      \
    .dirty_mib = 32

/* A guest that works on memory */
#define SW_READY_GUEST                          \
    SW_READY_BASE,                              \
    .driver = &sw_nbd,                          \
    SW_READY_MEMORY

/* ... and both sides know about the hold */
#define SW_READY_CASE                           \
    SW_READY_GUEST,                             \
    .ready = SW_BOTH

/* ... and the disk is an image that QEMU locks */
#define SW_READY_LOCAL                          \
    SW_READY_BASE,                              \
    .driver = &sw_qcow2_local,                  \
    SW_READY_MEMORY,                            \
    .ready = SW_BOTH

/* What is given to sw_add_case(): the end does it all */
void sw_run_ready_case(const void *opaque);

void sw_add_postcopy_cut_tests(void);
void sw_add_postcopy_disk_tests(void);
void sw_add_postcopy_input_tests(void);
void sw_add_postcopy_passes_tests(void);

#endif /* SWITCHOVER_POSTCOPY_READY_TESTS_H */
