/*
 * Post-copy that waits for a word before the destination runs: the destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See postcopy-ready.h for the protocol.
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/options.h"
#include "migration/postcopy-ready.h"
#include "migration/qemu-file.h"
#include "migration/switchover-incoming.h"
#include "qapi/error.h"
#include "qapi/qapi-events-switchover.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "trace.h"

/* All fields are protected by the lock */
static struct {
    QemuMutex lock;
    bool held;                  /* there was a hold */
    bool accepted;              /* the source may have committed */
    bool committed;             /* it has */
    bool backed_out;            /* it has not, and never will */
} in;

static void __attribute__((constructor)) postcopy_ready_incoming_init(void)
{
    qemu_mutex_init(&in.lock);
}

MigrationStatus postcopy_ready_listen_status(MigrationIncomingState *mis)
{
    return migrate_postcopy_ready() ? MIGRATION_STATUS_DEVICE :
                                      MIGRATION_STATUS_POSTCOPY_ACTIVE;
}

int postcopy_ready_handle_hold(MigrationIncomingState *mis)
{
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        if (in.backed_out) {
            /* The listen thread has failed meanwhile, and ends this */
            return 0;
        }
        if (!migrate_postcopy_ready() ||
            postcopy_state_get() != POSTCOPY_INCOMING_LISTENING) {
            error_report("CMD_POSTCOPY_HOLD in wrong postcopy state (%d)",
                         postcopy_state_get());
            return -EINVAL;
        }
        in.held = true;
    }
    migrate_set_state(&mis->state, MIGRATION_STATUS_DEVICE,
                      MIGRATION_STATUS_POSTCOPY_READY);
    trace_postcopy_ready_destination();
    qapi_event_send_migration_postcopy_ready();
    return migrate_send_rp_postcopy_ready(mis);
}

/* Returns whether it was not accepted before, and can be */
static bool postcopy_ready_accept(void)
{
    QEMU_LOCK_GUARD(&in.lock);

    if (!in.held || in.accepted || in.backed_out) {
        return false;
    }
    in.accepted = true;
    return true;
}

int postcopy_ready_handle_prepare(MigrationIncomingState *mis)
{
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        if (!in.held) {
            error_report("CMD_POSTCOPY_PREPARE without CMD_POSTCOPY_HOLD");
            return -EINVAL;
        }
    }
    if (postcopy_ready_accept()) {
        trace_postcopy_ready_accept(false);
        return migrate_send_rp_postcopy_accept(mis, false);
    }
    return 0;
}

bool postcopy_ready_cont(Error **errp)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    assert(bql_locked());

    if (postcopy_ready_accept()) {
        trace_postcopy_ready_accept(true);
        /* If it does not get there, the connection is going to be recovered */
        migrate_send_rp_postcopy_accept(mis, true);
        return true;
    }
    QEMU_LOCK_GUARD(&in.lock);
    if (in.backed_out) {
        error_setg(errp, "The migration was backed out of before the guest "
                   "could run here: it runs at the source");
        return false;
    }
    return true;
}

bool postcopy_ready_is_repeated(void)
{
    QEMU_LOCK_GUARD(&in.lock);
    return in.committed;
}

bool postcopy_ready_handle_run(MigrationIncomingState *mis)
{
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        if (!in.held) {
            return false;
        }
        in.committed = true;
    }
    trace_postcopy_ready_run();
    migrate_set_state(&mis->state, MIGRATION_STATUS_POSTCOPY_READY,
                      MIGRATION_STATUS_POSTCOPY_ACTIVE);
    return true;
}

bool postcopy_ready_pauses(void)
{
    QEMU_LOCK_GUARD(&in.lock);

    /* Later, this may be a snapshot that cannot be loaded */
    if (!migrate_postcopy_ready() ||
        postcopy_state_get() != POSTCOPY_INCOMING_LISTENING) {
        return false;
    }
    /* If it is the listen thread, it does not come back: accept nothing */
    if (!in.accepted && !qemu_in_coroutine()) {
        in.backed_out = true;
    }
    return in.accepted;
}

static void postcopy_ready_end_bh(void *opaque)
{
    MigrationIncomingState *mis = opaque;
    MigrationState *s = migrate_get_current();
    Error *err = NULL;

    mis->have_listen_thread = false;
    postcopy_state_set(POSTCOPY_INCOMING_END);

    error_setg(&err, "Post-copy was backed out of while the destination was "
               "held: the guest runs at the source");
    migrate_set_error(s, err);
    /* "device" if devices were still being loaded */
    migrate_set_state(&mis->state, mis->state, MIGRATION_STATUS_FAILED);
    error_report_err(err);
    if (mis->exit_on_error) {
        exit(EXIT_FAILURE);
    }
    migration_incoming_state_destroy();
}

bool postcopy_ready_load_failed(MigrationIncomingState *mis)
{
    assert(bql_locked());

    if (!migrate_postcopy_ready() || !mis->have_listen_thread) {
        return false;
    }
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        in.backed_out = true;
    }
    trace_postcopy_ready_load_failed();
    migrate_send_rp_shut(mis, 1);
    qemu_file_shutdown(mis->from_src_file);
    return true;
}

bool postcopy_ready_backed_out(MigrationIncomingState *mis)
{
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        if (!in.backed_out) {
            return false;
        }
    }
    /* If devices are still being loaded, that ends first */
    migration_bh_schedule(postcopy_ready_end_bh, mis);
    return true;
}
