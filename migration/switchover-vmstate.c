/*
 * Migration switchover: VM state changes in which devices take part at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/options.h"
#include "migration/switchover-vmstate.h"
#include "qemu/main-loop.h"

/*
 * The last stop of the VM comes after migration_shutdown(), which gives up the
 * object that the parameters are in.  At the first start this keeps it.
 */
static void switchover_keep_migration(void)
{
    static bool kept;

    if (!kept) {
        object_ref(OBJECT(migrate_get_current()));
        kept = true;
    }
}

bool switchover_parallel_vmstate_change(void)
{
    assert(bql_locked());
    switchover_keep_migration();
    return migrate_parallel_vmstate_change();
}

unsigned switchover_vmstate_change_threads(void)
{
    assert(bql_locked());
    return migrate_get_current()->parameters.vmstate_change_threads;
}

int64_t switchover_drain_timeout(void)
{
    assert(bql_locked());
    return migrate_get_current()->parameters.drain_timeout;
}
