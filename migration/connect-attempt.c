/*
 * Connections that are on their way when the migration is cancelled
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/yank.h"
#include "connect-attempt.h"
#include "migration.h"
#include "outgoing-channel.h"
#include "trace.h"

/* Protected by the BQL. Each holds a reference. */
static QIOChannel *current;
static GSList *forgotten;

/* Beside the main channel */
typedef struct Further {
    QIOChannel *ioc;
    bool given_up;
} Further;

/* The list and what is in it. Each holds a reference. */
static QemuMutex further_lock;
static GSList *further;

static void __attribute__((constructor)) migration_attempt_init(void)
{
    qemu_mutex_init(&further_lock);
}

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
    ioc = migration_channel_below_tls(ioc);
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

void migration_attempt_add(QIOChannel *ioc)
{
    Further *f = g_new0(Further, 1);

    f->ioc = QIO_CHANNEL(object_ref(OBJECT(ioc)));
    QEMU_LOCK_GUARD(&further_lock);
    further = g_slist_prepend(further, f);
}

static gint is_of(gconstpointer f, gconstpointer ioc)
{
    return ((const Further *)f)->ioc == ioc ? 0 : 1;
}

void migration_attempt_secure(QIOChannel *ioc)
{
    GSList *link;

    QEMU_LOCK_GUARD(&further_lock);
    link = g_slist_find_custom(further, ioc, is_of);
    if (link && (((Further *)link->data)->given_up ||
                 migrate_get_current()->state ==
                 MIGRATION_STATUS_CANCELLING)) {
        qio_channel_shutdown(ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
}

bool migration_attempt_remove(QIOChannel *ioc)
{
    GSList *link;
    Further *f;
    bool wanted;

    ioc = migration_channel_below_tls(ioc);
    QEMU_LOCK_GUARD(&further_lock);
    link = g_slist_find_custom(further, ioc, is_of);
    if (!link) {
        return true;
    }
    f = link->data;
    wanted = !f->given_up;
    if (!wanted) {
        trace_migration_attempt_late(ioc);
    }
    further = g_slist_delete_link(further, link);
    object_unref(OBJECT(f->ioc));
    g_free(f);
    return wanted;
}

void migration_attempt_give_up(void)
{
    GSList *link;

    QEMU_LOCK_GUARD(&further_lock);
    for (link = further; link; link = link->next) {
        Further *f = link->data;

        if (!f->given_up) {
            trace_migration_attempt_forget(f->ioc);
            f->given_up = true;
            qio_channel_shutdown(f->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        }
    }
}
