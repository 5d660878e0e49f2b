/*
 * Waiting for the channels of multifd
 *
 * Memory goes to multifd's channels through a queue, and may have to wait
 * twice: a full queue for a channel that is ready, and the end of a round until
 * all channels have sent what they were given. As for the main channel (see
 * migration/outgoing-channel.h), nobody waits for as long as it takes while
 * others need the locks that are held meanwhile:
 *
 * - In an iteration it is waited until the time of that is over. Then the
 *   iteration ends, and what it waited for is due.
 * - With the BQL it is waited for MIGRATION_PATIENCE_BQL_NS in a pass over the
 *   memory. Then it is due, and the BQL has to be dropped.
 *
 * What is due is waited for by multifd_wait_settle(). Before that no page is
 * picked: one that was cannot be given back.
 *
 * With mapped-ram and COLO all waits take as long as they take. So do those of
 * old machine types (multifd-flush-after-each-section), which sync at the end
 * of each section.
 *
 * Everything is for the migration thread, and does nothing without multifd.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_MULTIFD_WAIT_H
#define QEMU_MIGRATION_MULTIFD_WAIT_H

#include "exec/ramblock.h"
#include "migration/qemu-file.h"

/* For how long a pass over the memory may wait with the BQL */
#define MIGRATION_PATIENCE_BQL_NS (20 * 1000 * 1000LL)

/* A migration is being set up. Main thread, BQL held. */
void multifd_wait_reset(void);

/* A pass over the memory of a stopped guest begins. BQL held. */
void multifd_wait_begin_pass(void);

/* Whether the migration uses multifd: set by multifd_wait_reset() */
extern bool multifd_wait_is_used;

/* multifd_wait_may_queue() with multifd */
bool multifd_wait_for_queue(QEMUFile *f, const RAMBlock *block);

/*
 * May a page of @block be sent now? It is waited for a moment. False: not
 * before multifd_wait_settle(). @f is where the end of a sync is written to.
 *
 * It is asked for each page, so it is cheap without multifd.
 */
static inline bool multifd_wait_may_queue(QEMUFile *f, const RAMBlock *block)
{
    return likely(!multifd_wait_is_used) || multifd_wait_for_queue(f, block);
}

/*
 * The end of a round: sync, or go on with that if it is due. Returns 0, also if
 * it is due then, or a negative value if multifd has failed.
 */
int multifd_wait_end_round(QEMUFile *f);

/* Sync for as long as it takes. Returns 0, or a negative value. Any locks. */
int multifd_wait_sync(QEMUFile *f);

/* Does anything have to be waited for before memory can be sent? */
bool multifd_wait_is_due(void);

/*
 * Wait for that until get_clock() is @until_ns. Returns whether it may go on,
 * which it also may if multifd has failed. No locks held.
 */
bool multifd_wait_settle(int64_t until_ns);

#endif /* QEMU_MIGRATION_MULTIFD_WAIT_H */
