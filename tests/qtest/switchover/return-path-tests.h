/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the parts of return-path-test
 */
#ifndef SWITCHOVER_RETURN_PATH_TESTS_H
#define SWITCHOVER_RETURN_PATH_TESTS_H

#include "switchover/disk-config.h"
#include "switchover/return-path-rig.h"

#define SW_LINK_SUITE "return-path"

/* What cases are made of */
#define GUEST                                   \
    .healthy = true,                            \
    .device = &sw_virtio_blk,                   \
    .driver = &sw_nbd,                          \
    .kind = SW_KIND_ANY,                        \
    .dirty_mib_per_s = 50,                      \
    .dirty_mib = 32,                            \
    .off = true

#define PRECOPY                                 \
    GUEST,                                      \
    .link = SW_BOTH

#define POSTCOPY                                \
    GUEST,                                      \
    .postcopy = true,                           \
    .link = SW_BOTH

#define HELD                                    \
    POSTCOPY,                                   \
    .ready = SW_BOTH

/* Registers the cases, which have to stay */
void sw_link_add_cases(const SwCase *cases, unsigned n);

void sw_add_return_path_apart_tests(void);
void sw_add_return_path_stranger_tests(void);
void sw_add_return_path_leak_tests(void);
void sw_add_return_path_break_tests(void);
void sw_add_return_path_pairing_tests(void);
void sw_add_return_path_input_tests(void);

#endif /* SWITCHOVER_RETURN_PATH_TESTS_H */
