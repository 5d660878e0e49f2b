/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: migrations that are cancelled before they are connected
 */
#ifndef SWITCHOVER_CONNECT_TESTS_H
#define SWITCHOVER_CONNECT_TESTS_H

void sw_add_connect_tests(void);

#endif /* SWITCHOVER_CONNECT_TESTS_H */
