/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: steps of cases in which a backend does not answer
 *
 * It is the case's victim that does not.  With simulators, it keeps messages of
 * the kind "fault" (GET_VRING_BASE if that is NULL) without an answer, unless
 * the case is "lone"; else its process is stopped by SIGSTOP.
 */
#ifndef SWITCHOVER_PARALLEL_STUCK_H
#define SWITCHOVER_PARALLEL_STUCK_H

#include "switchover/parallel-rig.h"

/* From now on it does not answer / it does again, also to what was asked */
void par_stick(ParRig *rig);
void par_release(ParRig *rig);

/*
 * A switchover meets the victim, and is given up: the event names it, it is
 * late, everything else works, and the migration waits for another attempt.
 */
void par_get_stuck(ParRig *rig);
/* The guest, the monitor, and all devices but the victim work */
void par_expect_alive(ParRig *rig);
/* migrate_cancel takes effect, and the destination ends */
void par_cancel(ParRig *rig);

/*
 * Whole cases
 */

/* After a time-out, cancelled / completed when the backend answers */
void par_run_stuck_cancel(ParRig *rig);
void par_run_stuck_retry(ParRig *rig);
/* The backend does not answer at cont */
void par_run_start_late(ParRig *rig);
/* The destination's backend does not answer when the guest begins to run */
void par_run_start_late_destination(ParRig *rig);

#endif /* SWITCHOVER_PARALLEL_STUCK_H */
