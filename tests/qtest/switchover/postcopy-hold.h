/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that is held
 */
#ifndef SWITCHOVER_POSTCOPY_HOLD_H
#define SWITCHOVER_POSTCOPY_HOLD_H

#include "switchover/rig.h"

/* Waits until post-copy is held, and checks what both sides say and do then */
void sw_hold_expect(SwRig *rig);

/* Migrates until post-copy is held */
void sw_hold(SwRig *rig);

/*
 * The same, with so little bandwidth that there is always memory left to send,
 * until sw_hold_unlimit()
 */
void sw_hold_limited(SwRig *rig);
void sw_hold_limit(SwRig *rig);
void sw_hold_unlimit(SwRig *rig);

/* The commit, wanted by the source's user or by the destination's */
void sw_hold_continue(SwRig *rig);
void sw_hold_cont(SwRig *rig);

/* It completes; each side said once that it was held */
void sw_hold_expect_completed(SwRig *rig);

/*
 * It was backed out of with @status, for a reason that says @says (NULL: any):
 * the guest works on the source, the destination is gone.
 */
void sw_hold_expect_backed_out(SwRig *rig, const char *status,
                               const char *says);

/* As above; then another migration is held, and completes */
void sw_hold_expect_as_before(SwRig *rig, const char *status,
                              const char *says);

/* query-migrate's "status" and, if there is one, "error-desc" */
char *sw_migration_status(SwVM *vm);
char *sw_migration_error(SwVM *vm);

/* The error is there, and says @says */
void sw_expect_migration_error(SwVM *vm, const char *says);

/* Bytes of memory that are still to be sent */
int64_t sw_hold_remaining(SwRig *rig);

/* How many pages the destination asked for */
int64_t sw_hold_requests(SwRig *rig);

/* The source sends nothing more although there is something to send */
void sw_hold_wait_blocked(SwRig *rig);

/* Event number @nth says when and with what left the source was stopped */
void sw_expect_source_stopped(SwRig *rig, unsigned nth);

/* Nothing but time passes in the guest's place: it runs on neither side */
void sw_hold_expect_nobody_runs(SwRig *rig);

#endif /* SWITCHOVER_POSTCOPY_HOLD_H */
