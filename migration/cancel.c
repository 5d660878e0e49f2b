/*
 * Waits that end with the migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "cancel.h"
#include "connecting.h"
#include "multifd.h"
#include "qemu-file.h"

/* How long it takes to notice */
#define SLICE_MS 20

void migration_cancel_wake(MigrationState *s)
{
    assert(bql_locked());
    assert(s->state == MIGRATION_STATUS_CANCELLING);

    multifd_send_cancel();
    migration_connecting_give_up();
    /* In post-copy, each post stands for a page */
    if (!migration_in_postcopy()) {
        migration_make_urgent_request();
    }
}

static bool is_over(MigrationState *s)
{
    return qatomic_read(&s->state) == MIGRATION_STATUS_CANCELLING ||
           migrate_has_error(s) || qemu_file_get_error(s->to_dst_file);
}

bool migration_cancel_wait(MigrationState *s, QemuSemaphore *sem)
{
    while (qemu_sem_timedwait(sem, SLICE_MS)) {
        if (is_over(s)) {
            /* Who would post it must not do that later */
            migration_connecting_give_up();
            return false;
        }
    }
    return true;
}

void migration_cancel_file(MigrationState *s, QEMUFile *file)
{
    assert(bql_locked());
    if (s->state != MIGRATION_STATUS_COMPLETED) {
        qemu_file_shutdown(file);
    }
}
