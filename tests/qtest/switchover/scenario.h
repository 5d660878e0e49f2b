/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: how cases begin and end
 */
#ifndef SWITCHOVER_SCENARIO_H
#define SWITCHOVER_SCENARIO_H

#include "switchover/rig.h"

/*
 * Ends
 */

/* After the time-outs, the victim answers: the migration completes by itself */
void sw_end_completes(SwRig *rig);
/* ... and does so at once, however long the back-off still was */
void sw_end_completes_early(SwRig *rig);
/* The migration fails; later, another one completes */
void sw_end_fails(SwRig *rig);
/* Cancelled while the stopped guest waits; later, another one completes */
void sw_end_cancelled_waiting(SwRig *rig);
/* Cancelled between two attempts; later, another one completes */
void sw_end_cancelled_between(SwRig *rig);
/* QEMU has to quit while the stopped guest waits; then the victim answers */
void sw_end_quits_waiting(SwRig *rig);
/* The destination dies while the stopped guest waits */
void sw_end_destination_dies(SwRig *rig);
/* The destination dies between two attempts */
void sw_end_destination_dies_between(SwRig *rig);
/*
 * Nothing hangs: completes at the first attempt, although the guest's requests
 * wait for I/O limits
 */
void sw_end_completes_at_once(SwRig *rig);
/*
 * A request hangs that is made after pre-switchover, with the devices stopped:
 * fails; the guest runs again when the victim answers, the monitor always
 */
void sw_end_fails_after_pre_switchover(SwRig *rig);

/*
 * Cancels it, which takes effect at once, whatever is stuck: returns after how
 * many milliseconds
 */
int64_t sw_cancel(SwRig *rig);

/*
 * As if nothing had been tried: the guest works, on a victim that answers, and
 * can be migrated
 */
void sw_expect_as_before(SwRig *rig);

/*
 * Set-ups, and what undoes them at pre-switchover where they would not let
 * the disk go
 */

/* A mirror job; its target is the victim */
void sw_setup_mirror(SwRig *rig);
void sw_finish_mirror(SwRig *rig);
/* The second disk is an NBD export that somebody writes to, and the victim */
void sw_setup_export(SwRig *rig);
void sw_finish_export(SwRig *rig);
/* Few requests a second, by the throttle group or by the device's own limit */
void sw_setup_group_limits(SwRig *rig);
void sw_setup_device_limits(SwRig *rig);

#endif /* SWITCHOVER_SCENARIO_H */
