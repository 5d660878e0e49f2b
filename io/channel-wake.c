/*
 * A channel that can be woken up
 *
 * Theory of operation. Every read and write is an attempt of the master, which
 * does not block, and a poll() for its descriptor and for the event of that
 * direction if there was nothing to be had. The event is set by shutdown and
 * never cleared: the flag is set first, so that one who has not seen the flag
 * finds the event when it comes to poll(). Watches and the handlers for
 * coroutines look at the same two descriptors.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "io/channel-util.h"
#include "io/channel-wake.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/lockable.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "channel-wake-internal.h"
#include "trace.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

struct QIOChannelWake {
    QIOChannel parent;

    /* Set at creation */
    WakeMaster *master;
    unsigned directions;
    EventNotifier event[WAKE_DIRECTIONS];   /* those of @directions */

    /* Atomic */
    bool blocking;
    unsigned shut;                          /* a mask of directions */

    /* Of who closes it */
    bool closed;
};

static bool is_shut(QIOChannelWake *wioc, WakeDirection dir)
{
    return qatomic_load_acquire(&wioc->shut) & (1u << dir);
}

/* True if there was something to use before, and there is nothing now */
static bool shut_down(QIOChannelWake *wioc, unsigned mask)
{
    unsigned before = qatomic_fetch_or(&wioc->shut, mask);

    return (before & wioc->directions) != wioc->directions &&
           ((before | mask) & wioc->directions) == wioc->directions;
}

static bool is_alive(QIOChannelWake *wioc)
{
    return (qatomic_read(&wioc->shut) & wioc->directions) != wioc->directions;
}

static void init_events(QIOChannelWake *wioc, Error **errp)
{
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        int ret;

        if (!(wioc->directions & (1u << i))) {
            continue;
        }
        ret = event_notifier_init(&wioc->event[i], 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot create an event");
            return;
        }
    }
}

/* Without a master, which is what makes it a channel */
static QIOChannelWake *wake_new(unsigned directions, Error **errp)
{
    QIOChannelWake *wioc =
        QIO_CHANNEL_WAKE(object_new(TYPE_QIO_CHANNEL_WAKE));
    Error *err = NULL;

    wioc->directions = directions;
    init_events(wioc, &err);
    if (err) {
        error_propagate(errp, err);
        object_unref(OBJECT(wioc));
        return NULL;
    }
    return wioc;
}

static void put_on_master(QIOChannelWake *wioc, WakeMaster *master)
{
    QIOChannel *ioc = QIO_CHANNEL(wioc);

    wioc->master = master;
    ioc->follow_coroutine_ctx = master->ioc->follow_coroutine_ctx;
    qio_channel_set_name(ioc, master->ioc->name);
    qio_channel_set_feature(ioc, QIO_CHANNEL_FEATURE_SHUTDOWN);
    if (qio_channel_has_feature(master->io,
                                QIO_CHANNEL_FEATURE_READ_MSG_PEEK)) {
        qio_channel_set_feature(ioc, QIO_CHANNEL_FEATURE_READ_MSG_PEEK);
    }
    trace_qio_channel_wake_new(wioc, master->ioc, wioc->directions,
                               master->io != master->ioc);
}

QIOChannelWake *qio_channel_wake_new(QIOChannel *master, Error **errp)
{
    /* Which directions there are is known only after the master is changed */
    QIOChannelWake *wioc = wake_new(WAKE_MASK_IN | WAKE_MASK_OUT, errp);
    WakeMaster *shared;

    if (!wioc) {
        return NULL;
    }
    shared = wake_master_new(master, 1, errp);
    if (!shared) {
        object_unref(OBJECT(wioc));
        return NULL;
    }
    wioc->directions = wake_master_directions(shared);
    put_on_master(wioc, shared);
    return wioc;
}

bool qio_channel_wake_new_pair(QIOChannel *master, QIOChannelWake **in,
                               QIOChannelWake **out, Error **errp)
{
    g_autoptr(QIOChannelWake) reader = wake_new(WAKE_MASK_IN, errp);
    g_autoptr(QIOChannelWake) writer = reader ? wake_new(WAKE_MASK_OUT, errp)
                                              : NULL;
    WakeMaster *shared = writer ? wake_master_new(master, 2, errp) : NULL;

    if (!shared) {
        return false;
    }
    put_on_master(reader, shared);
    put_on_master(writer, shared);
    *in = g_steal_pointer(&reader);
    *out = g_steal_pointer(&writer);
    return true;
}

/* As poll(): more than 0 is ready or shut down */
static int poll_with_event(QIOChannelWake *wioc, WakeDirection dir,
                           struct pollfd ready, int timeout_ms)
{
    struct pollfd fds[] = {
        ready, {
            .fd = event_notifier_get_fd(&wioc->event[dir]),
            .events = POLLIN,
        },
    };

    return poll(fds, ARRAY_SIZE(fds), timeout_ms);
}

static int poll_direction(QIOChannelWake *wioc, WakeDirection dir,
                          int timeout_ms)
{
    return poll_with_event(wioc, dir, wake_master_pollfd(wioc->master, dir),
                           timeout_ms);
}

/* What is left of the time, and for ever stays for ever */
static int left_ms(int64_t start_ms, int timeout_ms)
{
    int64_t passed_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - start_ms;

    return timeout_ms < 0 ? -1 : MAX(0, timeout_ms - passed_ms);
}

int qio_channel_wake_wait(QIOChannelWake *wioc, GIOCondition condition,
                          int timeout_ms)
{
    WakeDirection dir = condition == G_IO_IN ? WAKE_IN : WAKE_OUT;
    int64_t start_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    bool ready = dir == WAKE_IN && wake_master_pending(wioc->master);
    int ret;

    assert(condition == G_IO_IN || condition == G_IO_OUT);
    assert(wioc->directions & (1u << dir));
    assert(!qemu_in_coroutine());

    while (!ready) {
        ret = poll_direction(wioc, dir, left_ms(start_ms, timeout_ms));
        if (ret == 0) {
            break;
        }
        ready = ret > 0;
    }
    return is_shut(wioc, dir) ? -1 : ready;
}

int qio_channel_wake_drain(QIOChannelWake *wioc, int timeout_ms, Error **errp)
{
    WakeWriter *writer = wioc->master->writer;
    int64_t start_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    int ret, polled = 1;

    assert(wioc->directions & WAKE_MASK_OUT);
    assert(!qemu_in_coroutine());

    do {
        if (is_shut(wioc, WAKE_OUT)) {
            error_setg(errp, "Channel was shut down");
            return -1;
        }
        ret = writer ? wake_writer_is_idle(writer, errp) : 1;
        if (ret == 0 && polled) {
            struct pollfd idle = {
                .fd = wake_writer_idle_fd(writer),
                .events = POLLIN,
            };

            polled = poll_with_event(wioc, WAKE_OUT, idle,
                                     left_ms(start_ms, timeout_ms));
        }
    } while (ret == 0 && polled);
    return ret;
}

/* False if the attempt has to be reported as one that would block */
static bool try_again(QIOChannelWake *wioc, WakeDirection dir)
{
    if (!qatomic_read(&wioc->blocking) || qemu_in_coroutine()) {
        return false;
    }
    poll_direction(wioc, dir, -1);
    return true;
}

static ssize_t qio_channel_wake_readv(QIOChannel *ioc,
                                      const struct iovec *iov, size_t niov,
                                      int **fds, size_t *nfds, int flags,
                                      Error **errp)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    ssize_t ret;

    if (!(wioc->directions & WAKE_MASK_IN)) {
        error_setg(errp, "Channel can only be written");
        return -1;
    }
    do {
        Error *err = NULL;

        if (is_shut(wioc, WAKE_IN)) {
            return 0;
        }
        ret = wake_master_readv(wioc->master, iov, niov, flags, &err);
        /* TLS calls it an error if the connection ends under it */
        if (err && is_shut(wioc, WAKE_IN)) {
            error_free(err);
            return 0;
        }
        error_propagate(errp, err);
    } while (ret == QIO_CHANNEL_ERR_BLOCK && try_again(wioc, WAKE_IN));

    return ret;
}

static ssize_t qio_channel_wake_writev(QIOChannel *ioc,
                                       const struct iovec *iov, size_t niov,
                                       int *fds, size_t nfds, int flags,
                                       Error **errp)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    ssize_t ret;

    if (!(wioc->directions & WAKE_MASK_OUT)) {
        error_setg(errp, "Channel can only be read");
        return -1;
    }
    do {
        if (is_shut(wioc, WAKE_OUT)) {
            error_setg(errp, "Channel was shut down");
            return -1;
        }
        ret = wake_master_writev(wioc->master, iov, niov, flags, errp);
    } while (ret == QIO_CHANNEL_ERR_BLOCK && try_again(wioc, WAKE_OUT));

    return ret;
}

static int qio_channel_wake_set_blocking(QIOChannel *ioc, bool enabled,
                                         Error **errp)
{
    qatomic_set(&QIO_CHANNEL_WAKE(ioc)->blocking, enabled);
    return 0;
}

static void qio_channel_wake_set_delay(QIOChannel *ioc, bool enabled)
{
    qio_channel_set_delay(QIO_CHANNEL_WAKE(ioc)->master->ioc, enabled);
}

static void qio_channel_wake_set_cork(QIOChannel *ioc, bool enabled)
{
    qio_channel_set_cork(QIO_CHANNEL_WAKE(ioc)->master->ioc, enabled);
}

static int qio_channel_wake_shutdown(QIOChannel *ioc, QIOChannelShutdown how,
                                     Error **errp)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    bool last = shut_down(wioc, how);

    trace_qio_channel_wake_shutdown(wioc, how, last);
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        if (how & wioc->directions & (1u << i)) {
            event_notifier_set(&wioc->event[i]);
        }
    }
    if (last) {
        wake_master_shut_down(wioc->master);
    }
    return 0;
}

static int qio_channel_wake_close(QIOChannel *ioc, Error **errp)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    bool was_alive;

    if (wioc->closed) {
        return 0;
    }
    wioc->closed = true;
    was_alive = shut_down(wioc, WAKE_MASK_IN | WAKE_MASK_OUT);
    trace_qio_channel_wake_close(wioc, was_alive);
    return wake_master_close(wioc->master, was_alive, errp);
}

bool qio_channel_wake_hung_up(QIOChannelWake *wioc)
{
    WakeMaster *master = wioc->master;
    bool reads = wioc->directions & WAKE_MASK_IN;
    struct pollfd fd = {
        .fd = master->fd[reads ? WAKE_IN : WAKE_OUT],
        .events = POLLRDHUP,
    };

    return poll(&fd, 1, 0) > 0;
}

static void set_fd_handler(AioContext *ctx, int fd, IOHandler *handler,
                           void *opaque)
{
    if (ctx) {
        aio_set_fd_handler(ctx, fd, handler, NULL, NULL, NULL, opaque);
    }
}

static void set_event_handler(QIOChannelWake *wioc, WakeDirection dir,
                              AioContext *ctx, IOHandler *handler,
                              void *opaque)
{
    if (wioc->directions & (1u << dir)) {
        set_fd_handler(ctx, event_notifier_get_fd(&wioc->event[dir]), handler,
                       opaque);
    }
}

static void qio_channel_wake_set_aio_fd_handler(QIOChannel *ioc,
                                                AioContext *read_ctx,
                                                IOHandler *io_read,
                                                AioContext *write_ctx,
                                                IOHandler *io_write,
                                                void *opaque)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    WakeMaster *master = wioc->master;

    if (master->writer) {
        set_fd_handler(write_ctx, wake_writer_room_fd(master->writer),
                       io_write, opaque);
    }
    qio_channel_util_set_aio_fd_handler(master->fd[WAKE_IN], read_ctx, io_read,
                                        master->fd[WAKE_OUT],
                                        master->writer ? NULL : write_ctx,
                                        io_write, opaque);
    set_event_handler(wioc, WAKE_IN, read_ctx, io_read, opaque);
    set_event_handler(wioc, WAKE_OUT, write_ctx, io_write, opaque);
}

typedef struct WakeSource {
    GSource parent;
    QIOChannelWake *wioc;
    GIOCondition condition;
    GPollFD fd[WAKE_DIRECTIONS];
    GPollFD event[WAKE_DIRECTIONS];
} WakeSource;

static const GIOCondition wake_condition[] = {
    [WAKE_IN] = G_IO_IN,
    [WAKE_OUT] = G_IO_OUT,
};

static bool by_writer(QIOChannelWake *wioc, WakeDirection dir)
{
    return dir == WAKE_OUT && wioc->master->writer;
}

static GIOCondition wake_source_ready(WakeSource *wsource)
{
    GIOCondition ready = 0;

    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        GIOCondition seen = wsource->fd[i].revents;

        ready |= by_writer(wsource->wioc, i) && seen ? G_IO_OUT : seen;
        ready |= wsource->event[i].revents ? wake_condition[i] | G_IO_HUP : 0;
    }
    if ((wsource->condition & G_IO_IN) &&
        wake_master_pending(wsource->wioc->master)) {
        ready |= G_IO_IN;
    }
    return ready & wsource->condition;
}

static gboolean wake_source_prepare(GSource *source, gint *timeout)
{
    WakeSource *wsource = (WakeSource *)source;

    *timeout = -1;
    return (wsource->condition & G_IO_IN) &&
           wake_master_pending(wsource->wioc->master);
}

static gboolean wake_source_check(GSource *source)
{
    return wake_source_ready((WakeSource *)source) != 0;
}

static gboolean wake_source_dispatch(GSource *source, GSourceFunc callback,
                                     gpointer user_data)
{
    QIOChannelFunc func = (QIOChannelFunc)callback;
    WakeSource *wsource = (WakeSource *)source;

    return func(QIO_CHANNEL(wsource->wioc), wake_source_ready(wsource),
                user_data);
}

static void wake_source_finalize(GSource *source)
{
    object_unref(OBJECT(((WakeSource *)source)->wioc));
}

static GSourceFuncs wake_source_funcs = {
    wake_source_prepare,
    wake_source_check,
    wake_source_dispatch,
    wake_source_finalize,
};

static GSource *qio_channel_wake_create_watch(QIOChannel *ioc,
                                              GIOCondition condition)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(ioc);
    GSource *source = g_source_new(&wake_source_funcs, sizeof(WakeSource));
    WakeSource *wsource = (WakeSource *)source;

    wsource->wioc = QIO_CHANNEL_WAKE(object_ref(OBJECT(wioc)));
    wsource->condition = condition;
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        GIOCondition other = wake_condition[!i];

        if (!(wioc->directions & (1u << i))) {
            continue;
        }
        wsource->fd[i].fd = wake_master_pollfd(wioc->master, i).fd;
        wsource->fd[i].events = condition & ~other;
        if (by_writer(wioc, i)) {
            wsource->fd[i].events = condition & G_IO_OUT ? G_IO_IN : 0;
        }
        wsource->event[i].fd = event_notifier_get_fd(&wioc->event[i]);
        wsource->event[i].events = G_IO_IN;
        g_source_add_poll(source, &wsource->fd[i]);
        g_source_add_poll(source, &wsource->event[i]);
    }
    return source;
}

static void qio_channel_wake_init(Object *obj)
{
    QIO_CHANNEL_WAKE(obj)->blocking = true;
}

static void qio_channel_wake_finalize(Object *obj)
{
    QIOChannelWake *wioc = QIO_CHANNEL_WAKE(obj);

    if (wioc->master) {
        wake_master_unref(wioc->master, wioc->closed, is_alive(wioc));
    }
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        event_notifier_cleanup(&wioc->event[i]);
    }
}

static void qio_channel_wake_class_init(ObjectClass *klass,
                                        void *class_data G_GNUC_UNUSED)
{
    QIOChannelClass *ioc_klass = QIO_CHANNEL_CLASS(klass);

    ioc_klass->io_readv = qio_channel_wake_readv;
    ioc_klass->io_writev = qio_channel_wake_writev;
    ioc_klass->io_close = qio_channel_wake_close;
    ioc_klass->io_create_watch = qio_channel_wake_create_watch;
    ioc_klass->io_set_blocking = qio_channel_wake_set_blocking;
    ioc_klass->io_set_delay = qio_channel_wake_set_delay;
    ioc_klass->io_set_cork = qio_channel_wake_set_cork;
    ioc_klass->io_shutdown = qio_channel_wake_shutdown;
    ioc_klass->io_set_aio_fd_handler = qio_channel_wake_set_aio_fd_handler;
}

static const TypeInfo qio_channel_wake_info = {
    .parent = TYPE_QIO_CHANNEL,
    .name = TYPE_QIO_CHANNEL_WAKE,
    .instance_size = sizeof(QIOChannelWake),
    .instance_init = qio_channel_wake_init,
    .instance_finalize = qio_channel_wake_finalize,
    .class_init = qio_channel_wake_class_init,
};

static void qio_channel_wake_register_types(void)
{
    type_register_static(&qio_channel_wake_info);
}

type_init(qio_channel_wake_register_types);
