/*
 * Connections that are on their way when the migration is cancelled
 *
 * A connect() in its thread and a TLS handshake in the main loop end at some
 * time and then report to the migration. If that one was cancelled, it may be
 * gone by then, and the next one may wait for a connection of its own. So what
 * is on its way is remembered, and with the migration it is forgotten: its late
 * report goes nowhere.
 *
 *   migration_connecting_begin    from socket.c and tls.c
 *   migration_connecting_forget   from migration_cancel()
 *   migration_connecting_take     from channel.c
 *
 * All of this is for the main loop, with the BQL. Then there are the channels
 * beside the main one, which are connected for a migration that runs: those of
 * multifd, each of which has its handshake in a thread of its own, and the one
 * that post-copy's pages have to themselves. Nobody else knows of them as long
 * as they are on their way. They are from any thread:
 *
 *   migration_connecting_further  from socket.c
 *   migration_connecting_secure   from tls.c
 *   migration_connecting_remove   from multifd.c and postcopy-ram.c
 *   migration_connecting_give_up  from cancel.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_CONNECTING_H
#define QEMU_MIGRATION_CONNECTING_H

#include "io/channel-socket.h"

/*
 * @ioc is connecting, or connected, with something to be done before the
 * migration has it: a TLS handshake. There is one at a time.
 */
void migration_connecting_begin(QIOChannel *ioc);

/*
 * The migration that waits for it was cancelled. Its yank instance goes, too:
 * the next one has its own.
 */
void migration_connecting_forget(void);

/*
 * There is a connection or an error for @ioc (a TLS channel stands for what it
 * is on). False if it was forgotten and nobody is to hear of it.
 */
bool migration_connecting_take(QIOChannel *ioc);

/*
 * Connect @sioc to @addr, beside the main channel, and call @func with @opaque,
 * once: in the main loop, or, if it is given up before, where that is done.
 * Then the task has an error. @func calls migration_connecting_remove().
 */
void migration_connecting_further(QIOChannelSocket *sioc, SocketAddress *addr,
                                  QIOTaskFunc func, void *opaque);

/*
 * If @ioc is one of those, then it is connected now, and its handshake comes
 * next. It fails at once if nobody wants the channel any more.
 */
void migration_connecting_secure(QIOChannel *ioc);

/*
 * There is a connection or an error for @ioc, as above. False if it was given
 * up: then the migration may be gone, and the next one may have begun.
 */
bool migration_connecting_remove(QIOChannel *ioc);

/*
 * None of them is wanted any more. Handshakes end. A connect() goes on in its
 * thread, and nobody hears of it; who waits for it hears of an error now.
 */
void migration_connecting_give_up(void);

#endif
