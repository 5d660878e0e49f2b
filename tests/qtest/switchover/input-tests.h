/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a user types, and what QEMU says to it
 */
#ifndef SWITCHOVER_INPUT_TESTS_H
#define SWITCHOVER_INPUT_TESTS_H

void sw_add_input_tests(void);

#endif /* SWITCHOVER_INPUT_TESTS_H */
