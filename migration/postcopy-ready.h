/*
 * Post-copy that waits for a word before the destination runs
 *
 * With the capability postcopy-ready, post-copy has a phase "hold" between the
 * package of device state and the guest's first instruction at the destination:
 *
 *   source                              destination
 *   ------                              -----------
 *   package, ends with POSTCOPY_HOLD    loads it, activates nothing
 *                                       <- POSTCOPY_READY
 *   event, status postcopy-ready        event, status postcopy-ready
 *   ... management moves locks, networks; RAM keeps flowing ...
 *   migrate-continue:
 *   POSTCOPY_PREPARE ->                 from here on a broken connection is a
 *                                       pause and not the end
 *                                       <- POSTCOPY_ACCEPT
 *   the commit: postcopy-active
 *   POSTCOPY_RUN ->                     the guest runs, postcopy-active
 *
 * "cont" at the destination sends POSTCOPY_ACCEPT unasked, which stands for the
 * request as well.
 *
 * The commit is one change of the source's state, done with the BQL held, by
 * postcopy_ready_commit(); so is a cancellation.  Whichever comes first
 * excludes the other.
 *
 * A destination that has not accepted knows that the source did not commit, so
 * it may end when the connection breaks.  One that has accepted does not know,
 * and waits for recovery; only a source that has committed ever recovers.  In
 * no state does the destination run without POSTCOPY_RUN, which is sent after
 * the commit only, and once more after each recovery.
 *
 * docs/devel/migration/postcopy-ready.rst has the whole of it; the model in
 * tests/model/postcopy-ready.pml shows that there are never two owners.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_READY_H
#define QEMU_MIGRATION_POSTCOPY_READY_H

#include "migration/migration.h"
#include "qemu/atomic.h"

/*
 * Source; called from any thread
 */

/* For postcopy_ready_holds() and postcopy_ready_interrupts() */
extern bool postcopy_ready_holding;
extern bool postcopy_ready_interrupting;

/*
 * Phase "hold" is going on, and the migration can still be backed out of. Asked
 * for each page, so it takes no lock.
 */
static inline bool postcopy_ready_holds(void)
{
    return qatomic_load_acquire(&postcopy_ready_holding);
}

/*
 * Do both sides have to agree about the capability?  Snapshots have the same
 * header as a migration, and no other side.
 */
bool postcopy_ready_is_validated(void);

/*
 * Source; called by the migration thread
 */

/*
 * Was the guest given to the destination, by a commit or, without a hold, with
 * the package?  Then it will never run here again.
 */
bool postcopy_ready_committed(void);

/*
 * Send the package without a hold.  Returns negative if the channel did not
 * take all of it, so that the destination cannot have got it.  Otherwise the
 * guest is handed over.  BQL held.
 */
int postcopy_ready_hand_over(MigrationState *s, const uint8_t *package,
                             size_t size);

/*
 * Is the iteration to look whether there is something more urgent to send?
 * Asked for each page.
 */
static inline bool postcopy_ready_interrupts(void)
{
    return qatomic_read(&postcopy_ready_interrupting);
}

/*
 * A pass is over: what is left is little enough to ask what the guest has
 * written meanwhile.
 */
void postcopy_ready_count_pass(void);

/*
 * Is it time for post-copy, by request or by parameter postcopy-after-passes?
 * @pending_bytes: how much is left to send.
 */
bool postcopy_ready_is_due(MigrationState *s, uint64_t pending_bytes);

/*
 * Source; called by the migration thread, BQL not held
 */

/*
 * Has the destination taken note of the capability?  Waits for it, so that a
 * destination that refuses does so before there is anything to lose.
 */
bool postcopy_ready_negotiate(MigrationState *s, Error **errp);

/* The connection was recovered: give the word again. */
void postcopy_ready_recovered(MigrationState *s);

/*
 * Source; called by the migration thread, BQL held, which is dropped meanwhile
 */

/*
 * Send the package, and then RAM until there is a decision.  Returns 0 if that
 * is the commit.  Then the status is postcopy-active, and the word was given to
 * the channel, which may have an error.  If not, it is for the caller to end
 * the migration, and for its end to start the guest again; the status is still
 * the one before, or "cancelling".
 */
int postcopy_ready_hold(MigrationState *s, const uint8_t *package, size_t size,
                        Error **errp);

/*
 * Source; called by the main thread, BQL held
 */

/* A migration begins */
void postcopy_ready_begin(MigrationState *s);

/* migrate-continue */
void postcopy_ready_continue(void);

/* migrate_cancel, which has changed the status already */
void postcopy_ready_on_cancel(void);

/*
 * Source; called by the return path thread
 */

void postcopy_ready_on_ready(void);
void postcopy_ready_on_accept(bool asked);
void postcopy_ready_on_end(void);

/*
 * Destination; called by the listen thread, or by the main thread for what is
 * in the package
 */

/* MIG_CMD_POSTCOPY_HOLD, _PREPARE.  Negative errno if out of place. */
int postcopy_ready_handle_hold(MigrationIncomingState *mis);
int postcopy_ready_handle_prepare(MigrationIncomingState *mis);

/* MIG_CMD_POSTCOPY_RUN: did it come before, so that there is nothing to do? */
bool postcopy_ready_is_repeated(void);

/*
 * Otherwise, after a hold: the source has committed.  Returns false if there
 * was no hold.
 */
bool postcopy_ready_handle_run(MigrationIncomingState *mis);

/* The status which the listen thread finds, and begins with. */
MigrationStatus postcopy_ready_listen_status(MigrationIncomingState *mis);

/* The connection broke: is it a pause? */
bool postcopy_ready_pauses(void);

/*
 * The devices could not be loaded, or the source could not be told that they
 * were.  Returns whether the listen thread is told to end, and the rest follows
 * from that: what it uses must not go before it does.  Main loop, BQL held.
 */
bool postcopy_ready_load_failed(MigrationIncomingState *mis);

/*
 * The listen thread has ended: was the migration backed out of during the hold?
 * Then this process ends by itself, from the main loop.
 */
bool postcopy_ready_backed_out(MigrationIncomingState *mis);

#endif /* QEMU_MIGRATION_POSTCOPY_READY_H */
