/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the proxy itself, on which tests of broken networks stand
 */
#ifndef SWITCHOVER_PROXY_TESTS_H
#define SWITCHOVER_PROXY_TESTS_H

void sw_add_proxy_tests(void);

#endif /* SWITCHOVER_PROXY_TESTS_H */
