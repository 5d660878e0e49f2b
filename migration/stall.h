/*
 * Waiting for a channel that takes nothing
 *
 * What everybody does who waits until a channel of an outgoing migration takes
 * more: the time is counted for query-migrate, and if it gets to be more than
 * parameter stall-threshold, that is said by event MIGRATION_STALLED, once when
 * it does and once when the channel goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_STALL_H
#define QEMU_MIGRATION_STALL_H

/* Of a channel, or of some that are waited for together; zeroes at first */
typedef struct MigrationStall {
    int64_t blocked_since_ns;   /* it takes nothing; 0: it may */
    bool stalled;               /* for stall-threshold */
} MigrationStall;

/*
 * All functions are for the migration thread, with any locks, and do not wait
 * themselves.
 */

/*
 * A wait until get_clock() is @until_ns begins. Returns for how long to wait at
 * most, in ms, with -1 for ever: until then, or until it becomes a stall.
 */
int migration_stall_wait_begin(MigrationStall *stall, int64_t until_ns);

/* It ended, for whatever reason; @bytes have to be sent still. */
void migration_stall_wait_end(MigrationStall *stall, size_t bytes);

/* The channel took something, or is given up; @bytes have to be sent still. */
void migration_stall_end(MigrationStall *stall, size_t bytes);

#endif /* QEMU_MIGRATION_STALL_H */
