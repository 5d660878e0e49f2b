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
#include "connecting.h"
#include "migration.h"
#include "outgoing-channel.h"
#include "trace.h"

/* Protected by the BQL. Each holds a reference. */
static QIOChannel *current;
static GSList *forgotten;

/*
 * Beside the main channel. Counted: the list has it, and so has the task that
 * connects it.
 */
typedef struct Further {
    QIOChannel *ioc;
    QIOTaskFunc func;
    void *opaque;
    bool is_connecting;
    bool given_up;
} Further;

/* The list and what is in it */
static QemuMutex further_lock;
static GSList *further;

static void __attribute__((constructor)) migration_connecting_init(void)
{
    qemu_mutex_init(&further_lock);
}

void migration_connecting_begin(QIOChannel *ioc)
{
    assert(bql_locked());
    if (current) {
        forgotten = g_slist_prepend(forgotten, current);
    }
    current = QIO_CHANNEL(object_ref(OBJECT(ioc)));
}

void migration_connecting_forget(void)
{
    assert(bql_locked());
    if (!current) {
        return;
    }
    trace_migration_connecting_forget(current);

    /* Ends a handshake. A connect() in its thread has to end by itself. */
    qio_channel_shutdown(current, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    forgotten = g_slist_prepend(forgotten, g_steal_pointer(&current));
    yank_unregister_instance(MIGRATION_YANK_INSTANCE);
}

bool migration_connecting_take(QIOChannel *ioc)
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
    trace_migration_connecting_late(ioc);
    forgotten = g_slist_delete_link(forgotten, link);
    object_unref(OBJECT(ioc));
    return false;
}

static bool is_cancelled(void)
{
    return qatomic_read(&migrate_get_current()->state) ==
           MIGRATION_STATUS_CANCELLING;
}

static void further_clear(void *opaque)
{
    Further *f = opaque;

    object_unref(OBJECT(f->ioc));
}

static void further_unref(void *opaque)
{
    g_atomic_rc_box_release_full(opaque, further_clear);
}

/* The task's callback, in the main loop */
static void further_connected(QIOTask *task, gpointer opaque)
{
    Further *f = opaque;

    WITH_QEMU_LOCK_GUARD(&further_lock) {
        if (f->given_up) {
            trace_migration_connecting_late(f->ioc);
            return;
        }
        f->is_connecting = false;
    }
    f->func(task, f->opaque);
}

/* In place of further_connected() */
static void further_report(void *opaque, void *unused)
{
    Further *f = opaque;
    QIOTask *task = qio_task_new(OBJECT(f->ioc), f->func, f->opaque, NULL);
    Error *err = NULL;

    error_setg(&err, "the channel was given up while it was connecting");
    qio_task_set_error(task, err);
    qio_task_complete(task);
    qio_task_free(task);
}

void migration_connecting_further(QIOChannelSocket *sioc, SocketAddress *addr,
                                  QIOTaskFunc func, void *opaque)
{
    Further *f = g_atomic_rc_box_new0(Further);

    f->ioc = QIO_CHANNEL(object_ref(OBJECT(sioc)));
    f->func = func;
    f->opaque = opaque;
    f->is_connecting = true;
    WITH_QEMU_LOCK_GUARD(&further_lock) {
        further = g_slist_prepend(further, f);
    }
    qio_channel_socket_connect_async(sioc, addr, further_connected,
                                     g_atomic_rc_box_acquire(f), further_unref,
                                     NULL);
    /* Either we see that it is cancelled, or who cancels it sees the channel */
    if (is_cancelled()) {
        migration_connecting_give_up();
    }
}

static gint is_of(gconstpointer f, gconstpointer ioc)
{
    return ((const Further *)f)->ioc == ioc ? 0 : 1;
}

void migration_connecting_secure(QIOChannel *ioc)
{
    GSList *link;

    QEMU_LOCK_GUARD(&further_lock);
    link = g_slist_find_custom(further, ioc, is_of);
    if (link && (((Further *)link->data)->given_up || is_cancelled())) {
        qio_channel_shutdown(ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
}

bool migration_connecting_remove(QIOChannel *ioc)
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
    if (!wanted && !f->is_connecting) {
        trace_migration_connecting_late(ioc);
    }
    further = g_slist_delete_link(further, link);
    further_unref(f);
    return wanted;
}

void migration_connecting_give_up(void)
{
    GSList *link, *connecting = NULL;

    WITH_QEMU_LOCK_GUARD(&further_lock) {
        for (link = further; link; link = link->next) {
            Further *f = link->data;

            if (f->given_up) {
                continue;
            }
            trace_migration_connecting_forget(f->ioc);
            f->given_up = true;
            if (f->is_connecting) {
                connecting = g_slist_prepend(connecting,
                                             g_atomic_rc_box_acquire(f));
            } else {
                qio_channel_shutdown(f->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
            }
        }
    }
    /* What is called takes them from the list */
    g_slist_foreach(connecting, further_report, NULL);
    g_slist_free_full(connecting, further_unref);
}
