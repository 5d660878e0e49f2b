/*
 * A return path with a socket of its own
 *
 * migrate and migrate-incoming may be given a channel of type 'return-path'
 * beside 'main'.  Its socket, "the link", carries everything from the
 * destination to the source, and the pages of post-copy that were asked for.
 * The main channel is then only written by the source and only read by the
 * destination.
 *
 * Every connection of such a migration begins with a hello of 32 bytes.  The
 * random token in it tells the destination which connections belong together:
 *
 *   source                                   destination
 *   ------                                   -----------
 *   main: hello                     ->       waits for the other one
 *   link: hello                     ->       same token, same capabilities
 *                                            <- link: welcome, or a sentence
 *   main: the stream as always      ->
 *                                            <- link: messages as always
 *   link: pages that were asked for ->       (post-copy RAM)
 *
 * Until the welcome nothing has begun: at the destination a connection that is
 * wrong, or that says nothing for RETURN_PATH_PATIENCE_MS, is closed, and the
 * right ones may come after it.
 *
 * A break of one of the two connections is one of both: who notices the one
 * breaks the other.  In pre-copy that is the end of the migration, in post-copy
 * a pause.  A recovery begins with two new connections and a new token.
 *
 * docs/devel/migration/return-path-channel.rst has the whole of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_RETURN_PATH_H
#define QEMU_MIGRATION_RETURN_PATH_H

#include "io/channel.h"
#include "migration/migration.h"
#include "qapi/qapi-types-migration.h"

/*
 * The source gives up after the destination does, so that it can hear why.
 */
#define RETURN_PATH_PATIENCE_MS 10000
#define RETURN_PATH_CONNECT_MS  12000

/*
 * What a destination that expects the channel answers, in SHUT, to a source
 * that was not given one
 */
#define RETURN_PATH_SHUT_EXPECTED 2

/* The first four bytes of a hello */
#define RETURN_PATH_HELLO_MAGIC 0x4d525048

/*
 * Commands; called by whoever executes them
 */

/*
 * The channels in @list, of which there must be 'main' and may be
 * 'return-path'.  *@return_path is NULL if there is none.
 */
bool return_path_pick_channels(MigrationChannelList *list,
                               MigrationAddress **main,
                               MigrationAddress **return_path, Error **errp);

/*
 * Can the channel @return_path (may be NULL) be used beside @main, with the
 * capabilities and parameters that are set?  Changes nothing.
 */
bool return_path_check_outgoing(MigrationAddress *main,
                                MigrationAddress *return_path, bool resume,
                                Error **errp);
bool return_path_check_incoming(MigrationAddress *main,
                                MigrationAddress *return_path, Error **errp);

/* Does migrate-recover with @channels suit the migration that is paused? */
bool return_path_check_recovery(MigrationChannelList *channels, Error **errp);

/*
 * Source; called by the main thread, BQL held
 */

/*
 * A migration begins, or a paused one is resumed, with @addr or without
 * (NULL).  A descriptor is taken from the monitor.
 */
bool return_path_prepare(MigrationAddress *addr, Error **errp);

/* Can @ioc be the main channel? */
bool return_path_suits(QIOChannel *ioc, Error **errp);

/*
 * The main channel is connected.  Returns true if there is a link to be
 * connected first; migration_channel_connect() is then called again.
 */
bool return_path_connect(MigrationState *s, QIOChannel *ioc);

/* The attempt to connect is over, or failed, and so is what came of it */
void return_path_connect_end(void);
/* It is, because the migration was cancelled: the yank instance goes as well */
void return_path_cancel(void);

/*
 * Source; called by any thread
 */

/* Does the migration that goes on, or the last one, have the channel? */
bool return_path_is_given(void);

/* Do pages that are asked for go somewhere else than to the main channel? */
bool postcopy_urgent_outgoing(void);

/* A further channel, for multifd or postcopy-preempt, is connected */
void return_path_greet(QIOChannel *ioc);

/*
 * Source; called by the main thread or by the migration thread
 */

/* The link's file to read from, or NULL; the one for urgent pages is set */
QEMUFile *return_path_open(MigrationState *ms);
/* That file is about to be closed, when the thread that read it has ended */
void return_path_release(QEMUFile *file);
/* Wake up who waits for the link */
void return_path_break(MigrationState *ms);
/* Is the link broken, although the thread that reads it may not know yet? */
bool return_path_is_broken(MigrationState *ms);

/*
 * Source; called by the return path thread
 */

/* It ends because of *@err: say where, and break the main channel as well */
void return_path_failed(MigrationState *ms, Error **err);

/*
 * Destination; called by whoever executes a command, BQL not needed:
 * migrate-recover is executed when the main thread may wait for a page
 */

bool return_path_listen(MigrationAddress *main, MigrationAddress *return_path,
                        Error **errp);
void return_path_listen_end(void);

/*
 * Where the destination listens for the link now, to be freed; NULL: nowhere,
 * or at a descriptor.  Any thread.
 */
SocketAddressList *return_path_addresses(void);

/* Between these two */
bool return_path_is_listening(void);

/*
 * Destination; called in the main context of the thread that executed the
 * command, BQL not needed
 */

/*
 * There is a connection @ioc.  Returns true if it is to be identified first, by
 * its hello.  If it belongs to the migration, then it is given to
 * migration_channel_process_incoming() again.
 */
bool return_path_take(QIOChannel *ioc);
/* @ioc failed before it could say anything */
void return_path_drop(QIOChannel *ioc);
/* May connections come although all are there? */
bool return_path_expects_resume(void);

/*
 * Destination; called by the thread that reads the main channel
 */

/* The link's file to write to, or NULL */
QEMUFile *return_path_open_incoming(MigrationIncomingState *mis);
/* The main channel is about to be closed, because of a pause, ... */
void return_path_forget_main(void);
/* ... its own file was closed, for the same reason, ... */
void return_path_release_incoming(void);
/* ... and has begun: what came too early is used now */
void return_path_look_again(void);
/* It has ended, whatever way; BQL held */
void return_path_end_incoming(void);
/*
 * Everything was read, and the guest could run: has the source gone?  Then the
 * guest is not ours, and the migration has failed.  BQL held.
 */
bool return_path_fails_incoming(void);
/*
 * All of the main channel was read.  Wait for the pages that come by the link;
 * returns negative errno if it broke.
 */
int return_path_wait_for_pages(MigrationIncomingState *mis);

/*
 * Destination; called by any thread
 */

bool return_path_is_given_incoming(void);
/* There is a new link, but the source is not ready for requests yet */
bool return_path_is_recovering(MigrationIncomingState *mis);
bool postcopy_urgent_incoming(void);
/* A read or write of the link failed: wake up who reads the main channel */
void return_path_broke(void);

#endif /* QEMU_MIGRATION_RETURN_PATH_H */
