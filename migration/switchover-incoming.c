/*
 * Migration switchover: the destination's side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * There is nothing to decide here yet: the phases are timed, so that it can be
 * seen which part of the downtime the destination is responsible for.
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/switchover-incoming.h"
#include "migration/options.h"
#include "migration/switchover-internal.h"
#include "qemu/main-loop.h"
#include "system/cpus.h"
#include "system/runstate.h"

static SwitchoverLog switchover_incoming;

static void __attribute__((constructor)) switchover_incoming_init(void)
{
    switchover_log_init(&switchover_incoming);
}

/* Is there a guest that was loaded and has not run yet? */
static bool switchover_incoming_pending(void)
{
    SwitchoverLog *log = &switchover_incoming;

    QEMU_LOCK_GUARD(&log->lock);
    return log->valid && log->phase != SWITCHOVER_PHASE_RESUME;
}

void switchover_incoming_setup(void)
{
    assert(bql_locked());

    /* For post-copy, memory has to be told about once more when it begins */
    if (runstate_check(RUN_STATE_INMIGRATE) && !migrate_postcopy_ram()) {
        vmstate_change_early();
    }
}

void switchover_incoming_load(void)
{
    assert(bql_locked());

    switchover_log_reset(&switchover_incoming);
    switchover_log_enter(&switchover_incoming, SWITCHOVER_PHASE_LOAD);
    if (!migrate_postcopy_ram()) {
        vmstate_change_load_begin();
    }
}

void switchover_incoming_loaded(void)
{
    assert(bql_locked());

    vmstate_change_load_end();
}

void switchover_incoming_activate(void)
{
    assert(bql_locked());

    if (switchover_incoming_pending()) {
        switchover_log_enter(&switchover_incoming, SWITCHOVER_PHASE_ACTIVATE);
    }
}

void switchover_incoming_vm_start(void)
{
    assert(bql_locked());

    if (!switchover_incoming_pending()) {
        vm_start();
        return;
    }
    switchover_log_enter(&switchover_incoming, SWITCHOVER_PHASE_DEVICE_START);
    if (!vm_prepare_start(false)) {
        resume_all_vcpus();
    }
    switchover_log_enter(&switchover_incoming, SWITCHOVER_PHASE_RESUME);
}

SwitchoverInfo *switchover_incoming_info(void)
{
    SwitchoverInfo *info = switchover_log_info(&switchover_incoming);

    if (info) {
        info->devices = switchover_vmstate_devices();
    }
    return info;
}
