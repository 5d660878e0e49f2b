/*
 * Threads for the part of a VM state change that needs no lock
 *
 * A worker sleeps in poll() on the file descriptors of all that it was handed,
 * and on an event notifier for news about these.  Work moves to the worker
 * under the lock and comes back under it.  While a step is made the lock is
 * not held, and the work belongs to the worker.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "system/vmstate-worker.h"

struct VMStateWorker {
    QemuThread thread;
    EventNotifier wake;
    QTAILQ_HEAD(, VMStateWork) work;    /* under workers.lock */
};

static struct {
    QemuMutex lock;
    QemuCond done;              /* some work left its worker */
    void (*notify)(void);       /* under notify_lock */
    QemuMutex notify_lock;

    /* BQL */
    VMStateWorker *worker[VMSTATE_WORKERS_MAX];
    unsigned count;
    unsigned active;            /* the first ones, which get work */
    unsigned next;              /* who gets work next */
} workers;

/* Whom this thread works for; NULL: it is no worker */
static __thread const char *vmstate_worker_device;

#define VMSTATE_WORKER_IDLE "none"

void vmstate_worker_check_bql(void)
{
    if (vmstate_worker_device) {
        error_report("Bug: a VM state change worker tries to take the BQL on "
                     "behalf of device '%s'", vmstate_worker_device);
        abort();
    }
}

static void vmstate_workers_notify(void)
{
    QEMU_LOCK_GUARD(&workers.notify_lock);
    if (workers.notify) {
        workers.notify();
    }
}

/* The lock is held */
static void vmstate_work_leave(VMStateWorker *w, VMStateWork *work)
{
    QTAILQ_REMOVE(&w->work, work, next);
    work->worker = NULL;
    qemu_cond_broadcast(&workers.done);
}

/* What to poll for, in @fds[i + 1] on behalf of @list[i] */
static void vmstate_worker_collect(VMStateWorker *w, GArray *fds,
                                   GPtrArray *list)
{
    struct pollfd pfd = {
        .fd = event_notifier_get_fd(&w->wake), .events = POLLIN,
    };
    VMStateWork *work, *next;

    QEMU_LOCK_GUARD(&workers.lock);

    g_array_set_size(fds, 0);
    g_ptr_array_set_size(list, 0);
    g_array_append_val(fds, pfd);
    QTAILQ_FOREACH_SAFE(work, &w->work, next, next) {
        if (work->cancelled) {
            vmstate_work_leave(w, work);
            continue;
        }
        pfd.fd = work->fd;
        pfd.events = work->events;
        pfd.revents = work->poked ? POLLIN : 0;
        work->poked = false;
        g_array_append_val(fds, pfd);
        g_ptr_array_add(list, work);
    }
}

/* Those that poll() found something for are due */
static void vmstate_worker_mark(GArray *fds, GPtrArray *list)
{
    QEMU_LOCK_GUARD(&workers.lock);

    for (unsigned i = 0; i < list->len; i++) {
        struct pollfd *pfd = &g_array_index(fds, struct pollfd, i + 1);
        VMStateWork *work = g_ptr_array_index(list, i);

        if (pfd->fd >= 0 && pfd->revents) {
            work->poked = true;
        }
    }
}

/* Returns whether @work is done, and then belongs to its owner again */
static bool vmstate_worker_step(VMStateWorker *w, VMStateWork *work)
{
    short events = 0;
    bool done;

    vmstate_worker_device = work->device;
    done = work->step(work, &events);
    vmstate_worker_device = VMSTATE_WORKER_IDLE;

    QEMU_LOCK_GUARD(&workers.lock);
    work->events = events;
    if (done && work->poked) {
        /* There is more to do since */
        event_notifier_set(&w->wake);
        done = false;
    }
    if (done) {
        vmstate_work_leave(w, work);
    }
    return done;
}

static void *vmstate_worker_thread(void *opaque)
{
    VMStateWorker *w = opaque;
    g_autoptr(GArray) fds = g_array_new(false, false, sizeof(struct pollfd));
    g_autoptr(GPtrArray) list = g_ptr_array_new();

    vmstate_worker_device = VMSTATE_WORKER_IDLE;
    while (true) {
        bool some_done = false;
        struct pollfd *pfd;

        event_notifier_test_and_clear(&w->wake);
        vmstate_worker_collect(w, fds, list);
        pfd = (struct pollfd *)fds->data;

        for (unsigned i = 0; i < list->len; i++) {
            VMStateWork *work = g_ptr_array_index(list, i);

            if (!pfd[i + 1].revents) {
                continue;
            }
            if (vmstate_worker_step(w, work)) {
                pfd[i + 1].fd = -1;
                some_done = true;
            } else {
                pfd[i + 1].events = work->events;
            }
        }
        if (some_done) {
            vmstate_workers_notify();
        }
        poll(pfd, fds->len, -1);
        vmstate_worker_mark(fds, list);
    }
    return NULL;
}

static VMStateWorker *vmstate_worker_new(unsigned index)
{
    g_autofree char *name = g_strdup_printf("vmstate/%u", index);
    VMStateWorker *w = g_new0(VMStateWorker, 1);

    if (event_notifier_init(&w->wake, 0) < 0) {
        g_free(w);
        return NULL;
    }
    QTAILQ_INIT(&w->work);
    qemu_thread_create(&w->thread, name, vmstate_worker_thread, w,
                       QEMU_THREAD_DETACHED);
    return w;
}

void vmstate_workers_start(unsigned threads)
{
    assert(bql_locked());

    if (!threads) {
        threads = g_get_num_processors();
    }
    threads = MIN(threads, VMSTATE_WORKERS_MAX);
    workers.active = threads;
    while (workers.count < threads) {
        VMStateWorker *w = vmstate_worker_new(workers.count);

        if (!w) {
            warn_report_once("VM state changes have %u threads only: "
                             "no more file descriptors", workers.count);
            workers.active = workers.count;
            break;
        }
        workers.worker[workers.count++] = w;
    }
}

unsigned vmstate_workers_active(void)
{
    return workers.active;
}

void vmstate_work_submit(VMStateWork *work)
{
    VMStateWorker *w = workers.worker[workers.next++ % workers.active];

    assert(bql_locked());

    WITH_QEMU_LOCK_GUARD(&workers.lock) {
        assert(!work->worker);
        work->worker = w;
        work->cancelled = false;
        work->poked = true;
        work->events = 0;
        QTAILQ_INSERT_TAIL(&w->work, work, next);
    }
    event_notifier_set(&w->wake);
}

void vmstate_work_cancel(VMStateWork *work)
{
    QEMU_LOCK_GUARD(&workers.lock);

    work->cancelled = true;
    if (work->worker) {
        event_notifier_set(&work->worker->wake);
    }
    while (work->worker) {
        qemu_cond_wait(&workers.done, &workers.lock);
    }
}

bool vmstate_work_poke(VMStateWork *work)
{
    QEMU_LOCK_GUARD(&workers.lock);

    if (work->worker) {
        work->poked = true;
        event_notifier_set(&work->worker->wake);
    }
    return work->worker;
}

bool vmstate_work_pending(VMStateWork *work)
{
    QEMU_LOCK_GUARD(&workers.lock);

    return work->worker;
}

void vmstate_workers_set_notify(void (*notify)(void))
{
    QEMU_LOCK_GUARD(&workers.notify_lock);

    workers.notify = notify;
}

static void __attribute__((constructor)) vmstate_workers_init(void)
{
    qemu_mutex_init(&workers.lock);
    qemu_mutex_init(&workers.notify_lock);
    qemu_cond_init(&workers.done);
}
