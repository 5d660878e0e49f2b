/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for a migration on its way, with a reader that stalls
 *
 * A guest under TCG works on a disk, and on memory that it verifies, while it
 * is migrated to a destination that takes nothing any more.
 *
 * Environment: as for switchover-test.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/iterations-tests.h"

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    sw_add_cancel_tests();
    sw_add_commit_tests();
    sw_add_pause_tests();
    sw_add_stall_tests();
    return g_test_run();
}
