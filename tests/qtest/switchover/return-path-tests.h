/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the parts of return-path-test
 */
#ifndef SWITCHOVER_RETURN_PATH_TESTS_H
#define SWITCHOVER_RETURN_PATH_TESTS_H

#define SW_LINK_SUITE "return-path"

void sw_add_return_path_input_tests(void);

#endif /* SWITCHOVER_RETURN_PATH_TESTS_H */
