/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what must be true of a rig
 */
#ifndef SWITCHOVER_EXPECT_H
#define SWITCHOVER_EXPECT_H

#include "switchover/rig.h"

/*
 * Waits for as many MIGRATION_DRAIN_TIMEOUT as the case wants to see, and
 * checks what each says.
 */
void sw_expect_timeouts(SwRig *rig);

/*
 * Lets the victim hang until SW_HANG_MS after the switchover was asked for;
 * meanwhile the guest ran and the monitor answered.
 *
 * Unpatched QEMU: both are silent from the first attempt until the victim
 * answers again, more than 2 s of the 3.
 */
void sw_expect_alive(SwRig *rig);

/* As above, for the monitor alone */
void sw_expect_monitor_alive(SwRig *rig);

/* Waits until no request comes to the victim although the guest works */
void sw_expect_requests_queued(SwRig *rig);

/* Waits until the guest is stopped, and the source waits for its requests */
void sw_expect_waiting(SwRig *rig);

/*
 * The migration came to nothing: the guest runs on the source, or is as
 * stopped as it was, and the destination ended.
 */
void sw_expect_on_source(SwRig *rig);

/* The victim answers again: I/O goes on and all data are right on the source */
void sw_expect_working(SwRig *rig);

/* With pause-before-switchover: the migration pauses there, and goes on */
void sw_expect_pre_switchover(SwRig *rig);

/* The migration completes; the guest runs on the destination only */
void sw_expect_moved(SwRig *rig);

/* The guest does I/O, and every block reads back as it was written */
void sw_expect_guest_working(SwGuest *guest);

/*
 * The migration completes, through post-copy if the case says so; the guest
 * runs on the destination only and finds all its data.
 */
void sw_expect_completed(SwRig *rig);

/* query-migrate's account of it; after at least one MIGRATION_DRAIN_TIMEOUT */
void sw_expect_account(SwRig *rig);

/* Why the migration failed: names the victim and the kind of request */
void sw_expect_error_names_request(SwRig *rig);

#endif /* SWITCHOVER_EXPECT_H */
