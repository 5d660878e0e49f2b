/*
 * How long iterations of a migration take, and for how long they may
 *
 * An iteration is one qemu_savevm_state_iterate(): what the migration thread
 * does before it looks at errors, cancellation, the switchover and the rate
 * again. It ends when parameter iteration-limit has passed, and also when the
 * channel takes nothing for a while: an iteration has locks that others wait
 * for. On the destination, an iteration is the loading of what one handler has
 * sent in one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_ITERATIONS_H
#define QEMU_MIGRATION_ITERATIONS_H

#include "migration/migration.h"
#include "qapi/qapi-types-switchover.h"
#include "qemu/atomic.h"

/* A migration is being set up. Main thread, BQL held. */
void iterations_reset(void);

/*
 * Source; called by the migration thread, BQL not held
 */

/*
 * Is there anything to be done, or has the channel still to take what the last
 * iteration left? Waits for that a moment, without locks. False: look at what
 * may have happened, and ask again.
 */
bool iterations_may_begin(MigrationState *s);

/* qemu_savevm_state_iterate(), measured and bounded */
int iterations_run(MigrationState *s, bool postcopy);

/*
 * Source; called by the migration thread in an iteration, any locks
 */

/* For iterations_is_over() */
extern bool iterations_over;

/* Has it to end? Asked for each page, so it is cheap: no clock is looked at. */
static inline bool iterations_is_over(void)
{
    return qatomic_read(&iterations_over);
}

/* It has to if its time is over; looks at the clock if there is a limit. */
bool iterations_is_late(void);

/* When the channel has to be given up, get_clock(); INT64_MAX: not at all */
int64_t iterations_deadline(void);

/* The channel takes no more: it has to end. */
void iterations_end_early(void);

/*
 * Destination; called by who loads the stream
 */

int64_t iterations_load_begin(void);
void iterations_load_end(int64_t begin_ns);

/*
 * Any thread
 */

/* Waiting for the channel begins, and ends. They do not nest. */
void iterations_blocked_begin(void);
void iterations_blocked_end(void);

/* The channel took nothing for stall-threshold. */
void iterations_count_stall(void);

/* For query-migrate; NULL if there was no migration. */
MigrationIterations *iterations_info(void);
void iterations_hmp_info(Monitor *mon, const MigrationIterations *info);

#endif /* QEMU_MIGRATION_ITERATIONS_H */
