/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a thread that serves libvhost-user devices
 */

#include "qemu/osdep.h"
#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "loop.h"

typedef struct Watch {
    uint64_t id;        /* a number of a file descriptor is used again */
    VuDev *vu;
    int fd;
    int condition;
    vu_watch_cb cb;
    void *data;
} Watch;

struct SimLoop {
    /* Set at creation */
    QemuThread thread;
    EventNotifier wake;

    /* The loop's thread's alone */
    GHashTable *watches;    /* by file descriptor */
    uint64_t last_id;

    /* Under the lock */
    QemuMutex lock;
    QemuCond done;
    SimLoopCall *call;      /* NULL: none to be made */
    void *opaque;
    bool stop;
};

static void add_pollfd(void *key, void *value, void *opaque)
{
    Watch *watch = value;
    struct pollfd fd = { .fd = watch->fd, .events = watch->condition };

    g_array_append_val((GArray *)opaque, fd);
}

/* What was watched when poll() was called, and may not be any more */
static void dispatch(SimLoop *loop, const GArray *fds, uint64_t last_id)
{
    unsigned i;

    for (i = 0; i < fds->len; i++) {
        struct pollfd *fd = &g_array_index(fds, struct pollfd, i);
        Watch *watch = g_hash_table_lookup(loop->watches,
                                           GINT_TO_POINTER(fd->fd));

        if (fd->revents && watch && watch->id <= last_id) {
            watch->cb(watch->vu, fd->revents, watch->data);
        }
    }
}

static void make_call(SimLoop *loop)
{
    SimLoopCall *call;

    qemu_mutex_lock(&loop->lock);
    call = loop->call;
    qemu_mutex_unlock(&loop->lock);
    if (!call) {
        return;
    }
    call(loop->opaque);
    qemu_mutex_lock(&loop->lock);
    loop->call = NULL;
    qemu_cond_broadcast(&loop->done);
    qemu_mutex_unlock(&loop->lock);
}

static bool must_stop(SimLoop *loop)
{
    QEMU_LOCK_GUARD(&loop->lock);
    return loop->stop;
}

static void *run(void *opaque)
{
    SimLoop *loop = opaque;
    struct pollfd wake = {
        .fd = event_notifier_get_fd(&loop->wake), .events = POLLIN,
    };
    g_autoptr(GArray) fds = g_array_new(false, false, sizeof(wake));

    while (!must_stop(loop)) {
        uint64_t last_id = loop->last_id;

        g_array_set_size(fds, 0);
        g_array_append_val(fds, wake);
        g_hash_table_foreach(loop->watches, add_pollfd, fds);
        if (poll((struct pollfd *)fds->data, fds->len, -1) < 0) {
            continue;
        }
        event_notifier_test_and_clear(&loop->wake);
        dispatch(loop, fds, last_id);
        make_call(loop);
    }
    return NULL;
}

SimLoop *sim_loop_new(void)
{
    SimLoop *loop = g_new0(SimLoop, 1);

    if (event_notifier_init(&loop->wake, 0) < 0) {
        g_error("eventfd: %s", g_strerror(errno));
    }
    loop->watches = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    qemu_mutex_init(&loop->lock);
    qemu_cond_init(&loop->done);
    qemu_thread_create(&loop->thread, "sim-loop", run, loop,
                       QEMU_THREAD_JOINABLE);
    return loop;
}

void sim_loop_free(SimLoop *loop)
{
    if (!loop) {
        return;
    }
    qemu_mutex_lock(&loop->lock);
    loop->stop = true;
    qemu_mutex_unlock(&loop->lock);
    event_notifier_set(&loop->wake);
    qemu_thread_join(&loop->thread);
    assert(!g_hash_table_size(loop->watches));
    g_hash_table_unref(loop->watches);
    event_notifier_cleanup(&loop->wake);
    qemu_cond_destroy(&loop->done);
    qemu_mutex_destroy(&loop->lock);
    g_free(loop);
}

void sim_loop_call(SimLoop *loop, SimLoopCall *fn, void *opaque)
{
    QEMU_LOCK_GUARD(&loop->lock);
    while (loop->call) {
        qemu_cond_wait(&loop->done, &loop->lock);
    }
    loop->call = fn;
    loop->opaque = opaque;
    event_notifier_set(&loop->wake);
    while (loop->call == fn && loop->opaque == opaque) {
        qemu_cond_wait(&loop->done, &loop->lock);
    }
}

void sim_loop_watch(SimLoop *loop, VuDev *vu, int fd, int condition,
                    vu_watch_cb cb, void *data)
{
    Watch *watch = g_new(Watch, 1);

    assert(qemu_thread_is_self(&loop->thread));
    *watch = (Watch) {
        .id = ++loop->last_id, .vu = vu, .fd = fd, .condition = condition,
        .cb = cb, .data = data,
    };
    g_hash_table_replace(loop->watches, GINT_TO_POINTER(fd), watch);
}

void sim_loop_unwatch(SimLoop *loop, int fd)
{
    assert(qemu_thread_is_self(&loop->thread));
    g_hash_table_remove(loop->watches, GINT_TO_POINTER(fd));
}
