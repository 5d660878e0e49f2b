/*
 * Migration switchover: the last second of a migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One state machine takes the guest from "runs at the source" to the point
 * from which it can only run at the destination.  The phases, with the names
 * that trace events, QMP and the documentation use as well:
 *
 *   approach     the guest runs, RAM is iterated          switchover.c
 *   quiesce      a moment without requests is looked for  switchover-quiesce.c
 *   stop         vCPUs are paused                         switchover.c
 *   drain        requests are waited for, disks flushed   switchover-drain.c
 *   device-stop  VM state change handlers run             switchover.c
 *   save         disks become inactive, the rest is sent  migration.c
 *   hold         post-copy waits for the word to run      postcopy-ready.c
 *   handover     the destination owns the guest
 *
 * Their times are kept by switchover-phases.c.  For the destination's phases
 * see include/migration/switchover-incoming.h.
 *
 * The disks are drained before the devices are stopped, because stopping a
 * device waits for its requests without a limit: virtio-blk and virtio-scsi
 * drain their BlockBackend when they give up their ioeventfds.  By then a
 * drained section has brought all nodes to rest and keeps them there, until the
 * disks are inactive.  The BQL is held for as long as it keeps them.
 *
 * Every phase before "save" can be backed out of.  If vCPUs have been paused
 * but devices not been stopped, then starting the vCPUs is all that has to be
 * undone: to devices and guest it was a scheduling delay.  Otherwise it is an
 * ordinary start of the VM.
 *
 * Contexts: the machine is driven by the migration thread.  It takes the BQL
 * for each step and sleeps without it.  Cancelling a migration sets its state
 * and kicks the machine; so does whatever may end a wait.
 */

#ifndef QEMU_MIGRATION_SWITCHOVER_H
#define QEMU_MIGRATION_SWITCHOVER_H

#include "migration/migration.h"
#include "migration/switchover-params.h"
#include "qapi/qapi-types-switchover.h"

/* Called by the main thread, BQL held: can a migration be set up? */
bool switchover_may_begin(Error **errp);

/* Called by the main thread, BQL held: a migration is being set up. */
void switchover_begin(MigrationState *s);

/*
 * Called by the migration thread, BQL not held
 */

/* May the guest be stopped now, or does a failed attempt call for patience? */
bool switchover_may_attempt(MigrationState *s);

/*
 * While an attempt is not due and there is next to nothing to send
 * (@pending_bytes below the switchover threshold), sleep for a while instead
 * of looking for dirty memory all the time.
 */
void switchover_pace(MigrationState *s, uint64_t pending_bytes);

/*
 * Is this the first time that post-copy starts?  An attempt that backed out
 * leaves the channels of post-copy in place.
 */
bool switchover_first_postcopy(MigrationState *s);

/*
 * Phase quiesce.  Returns whether the attempt shall go on; if not, the guest
 * dirtied too much memory in the meantime, and iterating has to go on.
 * @precopy: all memory has to fit into the downtime.
 */
bool switchover_quiesce(MigrationState *s, bool precopy);

/*
 * Called by the migration thread, BQL held; may drop and retake it
 */

/*
 * Phases stop, drain and device-stop: stop the guest and bring its disks to
 * rest.
 *
 * Returns 0 on success: the runstate is RUN_STATE_FINISH_MIGRATE.  On failure
 * a negative errno, and the guest is as it was before if drain-timeout is
 * set; otherwise migration_iteration_finish() has to restart it.  @errp is
 * set unless switchover_retrying().
 */
int switchover_stop(MigrationState *s, Error **errp);

/*
 * To be called right before the disks are made inactive.  If management was
 * given a turn in between (pause-before-switchover), drains and flushes once
 * more.  Fails like switchover_stop(), but there is no retry: management may
 * have given away what the guest needs to run here.
 */
bool switchover_rest(MigrationState *s, Error **errp);

/*
 * The disks are inactive now, or will not be: to be called before the BQL is
 * dropped.
 */
void switchover_release_disks(MigrationState *s);

/* The destination owns the guest. */
void switchover_handover(MigrationState *s);

/*
 * QEMU is about to end, and the migration was cancelled: let go of what is in
 * the way of jobs and exports.  The migration thread may come too late for
 * that.  Main loop, BQL held.
 */
void switchover_shutdown(void);

/* The migration thread is about to end: let go of all that is still held. */
void switchover_finish(MigrationState *s);

/*
 * Called by the migration thread, with or without the BQL
 */

/* Phase hold: see postcopy-ready.h. */
void switchover_enter_hold(MigrationState *s);

/* Did the last attempt back out in order to be repeated? */
bool switchover_retrying(MigrationState *s);

/*
 * Called from any thread
 */

/* The migration was cancelled, or something else may have ended a wait. */
void switchover_kick(void);

/* What the source is doing, or did */
SwitchoverPhase switchover_phase(void);

/*
 * For query-migrate: the source's side of the last migration, else the
 * destination's; NULL if there was neither.
 */
SwitchoverInfo *switchover_info(void);

#endif /* QEMU_MIGRATION_SWITCHOVER_H */
