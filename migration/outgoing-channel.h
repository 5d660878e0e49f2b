/*
 * The channel that a migration is written to
 *
 * It lies between the QEMUFile and a channel that can be woken up, and decides
 * for how long a writer waits if that takes no more:
 *
 * - With the BQL: not at all. What is not taken is kept, and sent when the BQL
 *   is not held. Only if that gets to be more than MIGRATION_BACKLOG_MAX the
 *   writer has to wait.
 * - In an iteration: until its time is over, or for MIGRATION_PATIENCE_NS if
 *   that is less, since others wait for the locks that an iteration has.
 *   Then it is kept, and the iteration ends.
 * - Otherwise for as long as it takes.
 *
 * Whoever waits is woken up by a shutdown: by migrate_cancel, migrate-pause and
 * yank.
 *
 * The last byte that gives the guest away is special: as soon as the
 * destination has it the guest may run there, and before it does not. If that
 * byte had to be kept, it is sent with the BQL held, and only if the migration
 * was not cancelled before.
 *
 * Everything is for the thread that writes, that is the migration thread, but
 * for reading, shutdown and what says otherwise.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_OUTGOING_CHANNEL_H
#define QEMU_MIGRATION_OUTGOING_CHANNEL_H

#include "io/channel-file.h"
#include "migration/migration.h"
#include "qemu/units.h"

/* What may be kept with the BQL held */
#define MIGRATION_BACKLOG_MAX (64 * MiB)

/* Beyond this, memory of a stopped guest is not read ahead of the channel */
#define MIGRATION_BACKLOG_RAM (4 * MiB)

/* How long others may have to wait for the locks of an iteration */
#define MIGRATION_PATIENCE_NS (50 * 1000 * 1000LL)

/* Has anything broken that is not known yet? Migration thread, BQL held. */
typedef bool MigrationIsBroken(MigrationState *s);

/*
 * The channel to write to instead of @ioc, with a reference of its own; @ioc
 * itself for migrations that do not only write a stream. NULL: failed.
 * @is_broken is asked before the guest is given away.
 *
 * Main thread, BQL held.
 */
QIOChannel *migration_outgoing_wrap(QIOChannel *ioc,
                                    MigrationIsBroken *is_broken, Error **errp);

/* What the TLS session of @ioc lies upon; @ioc itself if it has none */
QIOChannel *migration_channel_below_tls(QIOChannel *ioc);

/*
 * Is @path a FIFO to write a stream to? Then it has to be opened by the
 * function below: who opens one otherwise waits for somebody to read it. Main
 * thread.
 */
bool migration_outgoing_is_fifo(const char *path);

/* Fails if nobody has opened it for reading */
QIOChannelFile *migration_outgoing_open_fifo(const char *path, Error **errp);

/*
 * The functions below do nothing, successfully, if @f does not have such a
 * channel.
 */

/* What the file's channel lies upon, for its options; or the channel itself */
QIOChannel *migration_outgoing_bottom(QEMUFile *f);

/*
 * Send what was kept, until get_clock() is @until_ns. Returns whether nothing
 * is left. If it fails, @f has an error.
 */
bool migration_outgoing_settle(QEMUFile *f, int64_t until_ns);

/* Is there anything left to be sent? */
bool migration_outgoing_is_settled(QEMUFile *f);

/*
 * Is it time to let the channel take something, before more memory of the
 * stopped guest is read?
 */
bool migration_outgoing_is_full(QEMUFile *f);

/*
 * Send what was kept for as long as it takes. BQL held; it is dropped
 * meanwhile. Returns false if the migration came to its end: @f has an error.
 */
bool migration_outgoing_make_room(MigrationState *s);

/* With the byte after the next @ahead ones the guest is given away */
void migration_outgoing_mark(QEMUFile *f, size_t ahead);

/*
 * Send everything up to the byte that gives the guest away, and that byte. BQL
 * held; it may be dropped, but not after that byte. Returns 0, or a negative
 * errno if the migration was cancelled, or failed, before: then the byte was
 * not sent, and the file has an error.
 */
int migration_outgoing_commit(MigrationState *s);

/*
 * Send the rest, and wait until it is written, which is what makes a migration
 * to a file complete. BQL not held. Returns 0 or a negative errno.
 */
int migration_outgoing_finish(MigrationState *s);

/*
 * Was the guest given away, while the rest is still being sent? Then it is too
 * late to cancel. When all was sent, and the source waits to hear that it has
 * arrived, a cancel does what it does in unpatched QEMU. BQL held, any thread.
 */
bool migration_outgoing_is_committed(void);

#endif /* QEMU_MIGRATION_OUTGOING_CHANNEL_H */
