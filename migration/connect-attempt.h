/*
 * Connections that are on their way when the migration is cancelled
 *
 * A connect() in its thread and a TLS handshake in the main loop end at some
 * time and then report to the migration. If that one was cancelled, it may be
 * gone by then, and the next one may wait for a connection of its own. So what
 * is on its way is remembered, and with the migration it is forgotten: its late
 * report goes nowhere.
 *
 *   migration_attempt_begin    from socket.c and tls.c
 *   migration_attempt_forget   from migration_cancel()
 *   migration_attempt_take     from channel.c
 *
 * All of it is for the main loop, with the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_CONNECT_ATTEMPT_H
#define QEMU_MIGRATION_CONNECT_ATTEMPT_H

#include "io/channel.h"

/*
 * @ioc is connecting, or connected, with something to be done before the
 * migration has it: a TLS handshake. There is one at a time.
 */
void migration_attempt_begin(QIOChannel *ioc);

/*
 * The migration that waits for it was cancelled. Its yank instance goes, too:
 * the next one has its own.
 */
void migration_attempt_forget(void);

/*
 * There is a connection or an error for @ioc (a TLS channel stands for what it
 * is on). False if it was forgotten and nobody is to hear of it.
 */
bool migration_attempt_take(QIOChannel *ioc);

#endif
