/*
 * Connections that are on their way when the migration is cancelled
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-tls.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/yank.h"
#include "connect-attempt.h"
#include "trace.h"

/* Protected by the BQL. Each holds a reference. */
static QIOChannel *current;
static GSList *forgotten;

void migration_attempt_begin(QIOChannel *ioc)
{
    assert(bql_locked());
    if (current) {
        forgotten = g_slist_prepend(forgotten, current);
    }
    current = QIO_CHANNEL(object_ref(OBJECT(ioc)));
}

void migration_attempt_forget(void)
{
    assert(bql_locked());
    if (!current) {
        return;
    }
    trace_migration_attempt_forget(current);

    /* Ends a handshake. A connect() in its thread has to end by itself. */
    qio_channel_shutdown(current, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    forgotten = g_slist_prepend(forgotten, g_steal_pointer(&current));
    yank_unregister_instance(MIGRATION_YANK_INSTANCE);
}

bool migration_attempt_take(QIOChannel *ioc)
{
    GSList *link;

    assert(bql_locked());
    if (object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS)) {
        ioc = QIO_CHANNEL_TLS(ioc)->master;
    }
    if (ioc == current) {
        object_unref(OBJECT(g_steal_pointer(&current)));
        return true;
    }

    link = g_slist_find(forgotten, ioc);
    if (!link) {
        return true;
    }
    trace_migration_attempt_late(ioc);
    forgotten = g_slist_delete_link(forgotten, link);
    object_unref(OBJECT(ioc));
    return false;
}
