/*
 * A channel that can be woken up: a thread that writes
 *
 * Theory of operation. Of a file, a disk or a device, poll() does not tell how
 * long a write will take. Of a terminal, or a pipe that cannot be opened again,
 * it does, but not what another process writes before we do; and O_NONBLOCK
 * would be set for that process as well. So a thread of its own sits in
 * write(). There are two buffers: the channel fills one of them while the
 * thread writes the other one. Two events can be polled for: there is room, and
 * all was written (idle). Both stay set once nothing will be written any more.
 *
 * Who abandons the writer does not wait. The thread is brought out of write()
 * by a signal, which does nothing but interrupt. One signal may come just
 * before the system call and be lost. Hence another thread sends it again and
 * again, until the writer has left. A write that waits for a disk is not
 * interrupted: it ends when the disk answers, and until then somebody else
 * should not write to the same place.
 *
 * The thread has a duplicate of the descriptor: its number stays what it is,
 * whatever becomes of the channel. The channel's own one is handed over for
 * closing, since close() may wait for a disk, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "io/channel-wake.h"
#include "qapi/error.h"
#include "qemu/iov.h"
#include "qemu/lockable.h"
#include "channel-wake-internal.h"
#include "trace.h"

#define BUFFER_SIZE (256 * 1024)

/* Nobody else in QEMU uses it, and it is ignored where there is no handler */
#define KICK_SIGNAL SIGURG

/* Between two signals, from the first on */
#define KICK_MIN_MS 1
#define KICK_MAX_MS 100

struct WakeWriter {
    /* Set at creation */
    int fd;
    bool lasting;               /* what comes late would be found there */
    EventNotifier room;
    EventNotifier idle;
    QemuThread thread;

    /* Of the thread, and swapped by it under @lock */
    char *written;

    /* Written under @lock, and atomic for the thread while it writes */
    bool abandoned;

    /* Protected by @lock */
    QemuMutex lock;
    QemuCond changed;
    unsigned refs;              /* of the master, and of each thread */
    char *filled;
    size_t len;                 /* of what was filled in */
    bool has_room;              /* the events */
    bool is_idle;
    bool writing;               /* @written, without @lock */
    bool finished;              /* will never write again */
    bool closed;                /* there is no channel any more */
    bool counted;               /* in n_left */
    int close_fd;               /* what came with @closed, or -1 */
    int err;                    /* -errno of the write that failed, or 0 */
};

/* Atomic: writers without a channel that may still write something lasting */
static unsigned n_left;

bool qio_channel_wake_writer_is_stuck(void)
{
    return qatomic_read(&n_left);
}

static void set_event(EventNotifier *event, bool *is_set, bool set)
{
    if (set && !*is_set) {
        event_notifier_set(event);
    } else if (!set && *is_set) {
        event_notifier_test_and_clear(event);
    }
    *is_set = set;
}

static void update(WakeWriter *writer)
{
    bool empty = !writer->len && !writer->writing;

    set_event(&writer->room, &writer->has_room,
              writer->len < BUFFER_SIZE || writer->finished);
    set_event(&writer->idle, &writer->is_idle, empty || writer->finished);
    qemu_cond_broadcast(&writer->changed);
}

static void free_writer(WakeWriter *writer)
{
    event_notifier_cleanup(&writer->room);
    event_notifier_cleanup(&writer->idle);
    qemu_cond_destroy(&writer->changed);
    qemu_mutex_destroy(&writer->lock);
    g_free(writer->filled);
    g_free(writer->written);
    g_free(writer);
}

void wake_writer_unref(WakeWriter *writer)
{
    bool last;

    WITH_QEMU_LOCK_GUARD(&writer->lock) {
        last = --writer->refs == 0;
    }
    if (last) {
        free_writer(writer);
    }
}

static void do_nothing(int sig)
{
}

/* Without SA_RESTART: the system call is to return */
static void install_handler(void)
{
    struct sigaction action = { .sa_handler = do_nothing };

    sigemptyset(&action.sa_mask);
    sigaction(KICK_SIGNAL, &action, NULL);
}

/* QEMU's threads start with all signals blocked */
static void let_kicks_in(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Somebody set O_NONBLOCK. A kick ends this as well. */
static void wait_writable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLOUT };

    poll(&pfd, 1, -1);
}

/* Returns: 0 or -errno; abandoned is 0 */
static int write_out(WakeWriter *writer, size_t len)
{
    const char *at = writer->written;

    while (len && !qatomic_read(&writer->abandoned)) {
        ssize_t ret = write(writer->fd, at, len);

        if (ret > 0) {
            at += ret;
            len -= ret;
        } else if (ret == 0) {
            return -EIO;
        } else if (errno == EAGAIN) {
            wait_writable(writer->fd);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Until there is something to write; false if there will never be */
static bool wait_for_data(WakeWriter *writer)
{
    while (!writer->len && !writer->abandoned && !writer->closed) {
        qemu_cond_wait(&writer->changed, &writer->lock);
    }
    return writer->len && !writer->abandoned;
}

static size_t take_filled(WakeWriter *writer)
{
    char *filled = writer->filled;
    size_t len = writer->len;

    writer->filled = writer->written;
    writer->written = filled;
    writer->len = 0;
    writer->writing = true;
    update(writer);
    return len;
}

static void finish(WakeWriter *writer)
{
    trace_qio_channel_wake_writer_finish(writer, -writer->err);
    writer->finished = true;
    if (writer->counted) {
        qatomic_dec(&n_left);
    }
    update(writer);
    while (!writer->closed) {
        qemu_cond_wait(&writer->changed, &writer->lock);
    }
}

static void *writer_thread(void *opaque)
{
    WakeWriter *writer = opaque;

    let_kicks_in();
    qemu_mutex_lock(&writer->lock);
    while (!writer->err && wait_for_data(writer)) {
        size_t len = take_filled(writer);
        int err;

        qemu_mutex_unlock(&writer->lock);
        err = write_out(writer, len);
        qemu_mutex_lock(&writer->lock);
        writer->writing = false;
        writer->err = err;
        update(writer);
    }
    finish(writer);
    qemu_mutex_unlock(&writer->lock);

    close(writer->fd);
    if (writer->close_fd >= 0) {
        qemu_close(writer->close_fd);
    }
    wake_writer_unref(writer);
    return NULL;
}

static void *kick_thread(void *opaque)
{
    WakeWriter *writer = opaque;
    int pause_ms = KICK_MIN_MS;

    WITH_QEMU_LOCK_GUARD(&writer->lock) {
        while (!writer->finished) {
            pthread_kill(writer->thread.thread, KICK_SIGNAL);
            qemu_cond_timedwait(&writer->changed, &writer->lock, pause_ms);
            pause_ms = MIN(2 * pause_ms, KICK_MAX_MS);
        }
    }
    wake_writer_unref(writer);
    return NULL;
}

/* Pipes and terminals forget what nobody reads */
static bool is_lasting(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && !S_ISFIFO(st.st_mode) && !isatty(fd);
}

WakeWriter *wake_writer_new(int fd, Error **errp)
{
    g_autofree WakeWriter *writer = g_new0(WakeWriter, 1);

    writer->fd = qemu_dup(fd);
    if (writer->fd < 0) {
        error_setg_errno(errp, errno, "Cannot duplicate descriptor %d", fd);
        return NULL;
    }
    if (event_notifier_init(&writer->room, 1) < 0 ||
        event_notifier_init(&writer->idle, 1) < 0) {
        error_setg(errp, "Cannot create an event");
        event_notifier_cleanup(&writer->room);
        close(writer->fd);
        return NULL;
    }
    writer->lasting = is_lasting(fd);
    writer->filled = g_malloc(BUFFER_SIZE);
    writer->written = g_malloc(BUFFER_SIZE);
    writer->has_room = writer->is_idle = true;
    writer->close_fd = -1;
    writer->refs = 2;
    qemu_mutex_init(&writer->lock);
    qemu_cond_init(&writer->changed);
    install_handler();
    trace_qio_channel_wake_writer_new(writer, fd, writer->lasting);
    qemu_thread_create(&writer->thread, "wake-write", writer_thread, writer,
                       QEMU_THREAD_DETACHED);
    return g_steal_pointer(&writer);
}

int wake_writer_room_fd(WakeWriter *writer)
{
    return event_notifier_get_fd(&writer->room);
}

int wake_writer_idle_fd(WakeWriter *writer)
{
    return event_notifier_get_fd(&writer->idle);
}

/* True, with an error, if nothing can be written any more */
static bool is_over(const WakeWriter *writer, Error **errp)
{
    if (writer->err) {
        error_setg_errno(errp, -writer->err, "Unable to write to file");
    } else if (writer->abandoned) {
        error_setg(errp, "Channel was shut down");
    }
    return writer->err || writer->abandoned;
}

ssize_t wake_writer_put(WakeWriter *writer, const struct iovec *iov,
                        size_t niov, Error **errp)
{
    size_t taken;

    QEMU_LOCK_GUARD(&writer->lock);
    if (is_over(writer, errp)) {
        return -1;
    }
    taken = iov_to_buf(iov, niov, 0, writer->filled + writer->len,
                       BUFFER_SIZE - writer->len);
    writer->len += taken;
    update(writer);
    return taken || !iov_size(iov, niov) ? taken : QIO_CHANNEL_ERR_BLOCK;
}

int wake_writer_is_idle(WakeWriter *writer, Error **errp)
{
    QEMU_LOCK_GUARD(&writer->lock);
    return is_over(writer, errp) ? -1 : writer->is_idle;
}

/* Nobody is there any more who would notice */
static void count_left(WakeWriter *writer)
{
    bool unwritten = writer->len && !writer->abandoned;

    if (writer->lasting && !writer->finished && !writer->counted &&
        (writer->writing || unwritten)) {
        writer->counted = true;
        qatomic_inc(&n_left);
    }
}

void wake_writer_abandon(WakeWriter *writer)
{
    QemuThread thread;

    QEMU_LOCK_GUARD(&writer->lock);
    trace_qio_channel_wake_writer_abandon(writer, writer->writing);
    qatomic_set(&writer->abandoned, true);
    count_left(writer);
    update(writer);
    if (writer->writing) {
        writer->refs++;
        qemu_thread_create(&thread, "wake-kick", kick_thread, writer,
                           QEMU_THREAD_DETACHED);
    }
}

void wake_writer_close(WakeWriter *writer, int fd)
{
    QEMU_LOCK_GUARD(&writer->lock);
    count_left(writer);
    writer->close_fd = fd;
    writer->closed = true;
    update(writer);
}
