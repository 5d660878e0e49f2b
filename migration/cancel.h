/*
 * Waits that end with the migration
 *
 * A migration that is cancelled has to be over soon, whatever the destination
 * does: it may be stopped. What waits for the main channel is woken up when
 * that is shut down. This is about all the others:
 *
 *   multifd's threads, in a channel, and who waits for them
 *   channels that are on their way (connecting.h)
 *   the sleep that limits the bandwidth
 *   what post-copy with a channel for its pages begins with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_CANCEL_H
#define QEMU_MIGRATION_CANCEL_H

#include "migration.h"

/* It is being cancelled, and its main channel is shut down. BQL. */
void migration_cancel_wake(MigrationState *s);

/*
 * Waits for @sem, which somebody posts who depends on the destination. False
 * if the migration was cancelled, or has failed, instead. Migration thread.
 */
bool migration_cancel_wait(MigrationState *s, QemuSemaphore *sem);

/*
 * @file is about to be closed. If the migration has not completed, nobody is
 * to wait until the destination takes the rest of it. BQL.
 */
void migration_cancel_file(MigrationState *s, QEMUFile *file);

#endif
