/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what must be true of devices that change at once
 */
#ifndef SWITCHOVER_PARALLEL_EXPECT_H
#define SWITCHOVER_PARALLEL_EXPECT_H

#include "switchover/parallel-rig.h"

/*
 * Of the simulators on the source's host
 */

/* All questions of a connection were outstanding at once */
void par_expect_depth(ParRig *rig);
/*
 * Since @since_us, no device was done with messages of @kind before all of them
 * had got one
 */
void par_expect_together(ParRig *rig, const char *kind, int64_t since_us);
/* No queue runs / all queues run */
void par_expect_stopped(ParRig *rig);
void par_expect_all_started(ParRig *rig);

/*
 * Of any backends
 */

/* query-migrate lists all devices, with what they were told, or none */
void par_expect_counted(SwVM *vm, ParRig *rig, bool taking_part);
/*
 * So often at least, each device took part in stopping, and in starting.
 * The case traces vmstate_change_commit.
 */
void par_expect_took_part(ParRig *rig, SwVM *vm, unsigned times);

#endif /* SWITCHOVER_PARALLEL_EXPECT_H */
