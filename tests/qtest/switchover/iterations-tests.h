/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the parts of iterations-test
 */
#ifndef SWITCHOVER_ITERATIONS_TESTS_H
#define SWITCHOVER_ITERATIONS_TESTS_H

#define SW_ITERATIONS_SUITE "iterations"

void sw_add_cancel_tests(void);
void sw_add_commit_tests(void);
void sw_add_pause_tests(void);
void sw_add_stall_tests(void);

#endif /* SWITCHOVER_ITERATIONS_TESTS_H */
