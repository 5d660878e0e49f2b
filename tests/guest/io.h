/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verified direct I/O
 *
 * Every disk has a number of workers.  A worker is a thread with a region of
 * blocks that nobody else touches, and a log of what it wrote there, kept in
 * RAM: when the guest migrates, the log moves with the RAM and the blocks stay
 * on the disk, and the two have to agree afterwards.
 *
 * The main thread sets the mode and orders a verification; it never waits for
 * a disk.  A worker looks at both between two operations.  A verification is
 * done by the workers, each for its own region, after their operation in
 * flight; the last one to finish answers on the serial line.
 */
#ifndef GUEST_IO_H
#define GUEST_IO_H

#include <stdbool.h>
#include <stdint.h>

typedef enum IoMode {
    IO_IDLE,        /* no request at all */
    IO_RW,          /* write and read back, a flush now and then */
    IO_READ,        /* read what was written before */
    IO_WRITE,       /* write only */
    IO_FLUSH,       /* mostly flushes, each after few or no writes */
    IO_DISCARD,     /* discard 64 KiB, write into it */
    IO_MODE_MAX,
} IoMode;

typedef struct IoConfig {
    const char *disks;          /* comma-separated names, as in /sys/block */
    unsigned depth;             /* workers per disk */
    unsigned region_blocks;     /* blocks per worker at most */
    unsigned think_us;          /* pause after an operation, 0 = none */
} IoConfig;

/* The mode called @name, or IO_MODE_MAX. */
IoMode io_mode_by_name(const char *name);

/*
 * The functions below are for the main thread.
 */

/*
 * Waits for the disks, opens them, writes the first generation of blocks and
 * returns the number of disks, with the workers in @mode.  A failure is fatal.
 */
unsigned io_start(const IoConfig *config, IoMode mode);

/*
 * Sets the mode of all workers.  Requests in flight are left alone.  Returns
 * NULL, or why the disks cannot do it.
 */
const char *io_set_mode(IoMode mode);

/*
 * Orders a verification.  Returns NULL if it began, in which case the answer
 * comes on the serial line; or why it did not.
 */
const char *io_verify(void);

/*
 * Any thread: operations completed and failed so far, on the disk @name or, if
 * that is NULL, on all of them.  False if there is no such disk.
 */
bool io_stats(const char *name, uint64_t *ops, uint64_t *errors);

#endif
