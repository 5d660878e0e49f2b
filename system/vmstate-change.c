/*
 * VM state changes in which devices take part at the same time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "hw/virtio/virtio-notifier-batch.h"
#include "hw/virtio/virtio-route-batch.h"
#include "migration/switchover-vmstate.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "system/vmstate-change.h"
#include "system/vmstate-worker.h"
#include "trace.h"

/*
 * For how long a start waits with the BQL held.  A monitor shall answer within
 * 100 ms.  The guest can do without a device that needs longer than that.
 */
#define VMSTATE_START_WAIT_MS 80

static struct {
    /* BQL */
    QTAILQ_HEAD(, VMStateParallel) list;
    bool enabled;               /* during the change in progress */
    bool stopping;              /* the work of a stop has begun */
    bool loading;               /* devices' state is being loaded */
    QEMUBH *late_bh;
    int64_t mark_ns;            /* the last step ended */

    /* Any thread */
    bool some_late;
    void (*notify)(void);
} change = {
    .list = QTAILQ_HEAD_INITIALIZER(change.list),
};

void vmstate_parallel_register(VMStateParallel *p,
                               const VMStateParallelOps *ops)
{
    assert(bql_locked());

    p->ops = ops;
    QTAILQ_INSERT_TAIL(&change.list, p, next);
}

void vmstate_parallel_unregister(VMStateParallel *p)
{
    assert(bql_locked());

    QTAILQ_REMOVE(&change.list, p, next);
}

int64_t vmstate_parallel_patience_ms(VMStateParallel *p)
{
    int64_t timeout_ms = switchover_drain_timeout();

    return p->overdue && timeout_ms ? timeout_ms : -1;
}

static void vmstate_change_notify(void)
{
    void (*notify)(void) = qatomic_read(&change.notify);

    if (qatomic_read(&change.some_late)) {
        qemu_bh_schedule(change.late_bh);
    }
    if (notify) {
        notify();
    }
}

void vmstate_change_set_notify(void (*notify)(void))
{
    qatomic_set(&change.notify, notify);
}

/* A step of the change in progress ends */
static void vmstate_change_mark(bool running, const char *step)
{
    int64_t now_ns = get_clock();

    trace_vmstate_change_step(running, step, (now_ns - change.mark_ns) /
                              SCALE_US);
    change.mark_ns = now_ns;
}

static bool vmstate_change_done(VMStateParallel *p)
{
    return p->ops->wait(p, 0);
}

static bool vmstate_change_prepare(VMStateParallel *p, bool running)
{
    const char *reason = NULL;

    p->n_messages = 0;
    p->handler_ns = 0;
    p->begin_ns = get_clock();
    p->active = p->ops->prepare(p, running, &reason);
    if (reason) {
        trace_vmstate_change_serial(p->ops->name(p), running, reason);
    }
    if (p->active || reason) {
        p->reason = reason;
    }
    return p->active;
}

static void vmstate_change_commit(VMStateParallel *p, bool running)
{
    p->active = false;
    p->late = false;
    p->overdue = false;
    p->work_ns = p->n_messages ? p->done_ns - p->begin_ns : 0;
    p->last_messages = p->n_messages;
    trace_vmstate_change_commit(p->ops->name(p), running, p->n_messages,
                                p->work_ns / SCALE_US);
    p->ops->commit(p, running);
}

/* Finish the change of @p when its work is done */
static void vmstate_change_later(VMStateParallel *p, bool running)
{
    trace_vmstate_change_later(p->ops->name(p), running);
    p->active = false;
    p->late = true;
    p->late_running = running;
    p->overdue = !running;
    qatomic_set(&change.some_late, true);
    /* It may have been done before the flag was set */
    qemu_bh_schedule(change.late_bh);
}

/* The work of the stop is done, but it was backed out of: let the device run */
static void vmstate_change_restart(VMStateParallel *p)
{
    p->begin_ns = get_clock();
    p->n_messages = 0;
    p->active = true;
    p->ops->restart(p);
    p->ops->work(p);
}

static void vmstate_change_late_bh(void *opaque)
{
    VMStateParallel *p;
    bool some_late = false;

    if (change.stopping) {
        /* Whoever stops the VM looks by himself */
        return;
    }
    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->late && !vmstate_change_done(p)) {
            some_late = true;
        } else if (p->late && p->late_running) {
            vmstate_change_commit(p, true);
        } else if (p->late) {
            p->late = false;
            vmstate_change_restart(p);
            vmstate_change_later(p, true);
            some_late = true;
        }
    }
    qatomic_set(&change.some_late, some_late);
}

/* Starts that were submitted are committed, if they do not take too long */
static void vmstate_change_finish_start(void)
{
    int64_t end_ns = get_clock() + VMSTATE_START_WAIT_MS * SCALE_MS;
    VMStateParallel *p;

    QTAILQ_FOREACH(p, &change.list, next) {
        int64_t left_ms = MAX(end_ns - get_clock(), 0) / SCALE_MS;

        if (!p->active) {
            continue;
        }
        if (p->ops->wait(p, left_ms)) {
            vmstate_change_commit(p, true);
        } else {
            warn_report("Device '%s' starts later than the guest: its backend "
                        "has not answered yet", p->ops->name(p));
            vmstate_change_later(p, true);
        }
    }
}

static bool vmstate_change_enable(void)
{
    if (!switchover_parallel_vmstate_change() || QTAILQ_EMPTY(&change.list)) {
        return false;
    }
    if (!change.late_bh) {
        change.late_bh = qemu_bh_new(vmstate_change_late_bh, NULL);
        vmstate_workers_set_notify(vmstate_change_notify);
    }
    vmstate_workers_start(switchover_vmstate_change_threads());
    return vmstate_workers_active();
}

/* What all devices do to notifiers and interrupt routes is done at the end */
static void vmstate_change_batch_begin(void)
{
    virtio_notifier_batch_begin();
    virtio_route_batch_begin();
}

static void vmstate_change_batch_end(void)
{
    virtio_route_batch_end();
    virtio_notifier_batch_end();
}

void vmstate_change_stop_begin(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    if (change.stopping || !vmstate_change_enable()) {
        return;
    }
    change.stopping = true;
    change.mark_ns = get_clock();
    QTAILQ_FOREACH(p, &change.list, next) {
        p->late = false;
        vmstate_change_prepare(p, false);
    }
    vmstate_change_mark(false, "prepare");
}

bool vmstate_change_stop_busy(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active && !vmstate_change_done(p)) {
            return true;
        }
    }
    return false;
}

void vmstate_change_stop_cancel(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    if (!change.stopping) {
        return;
    }
    vmstate_change_batch_begin();
    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active && vmstate_change_done(p)) {
            vmstate_change_restart(p);
        } else if (p->active) {
            warn_report("Device '%s' stands still until its backend answers",
                        p->ops->name(p));
            vmstate_change_later(p, false);
        }
    }
    vmstate_change_batch_end();
    vmstate_change_finish_start();
    change.stopping = false;
}

static void vmstate_change_wait_stopped(void)
{
    VMStateParallel *p;

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active) {
            p->ops->wait(p, -1);
        }
    }
    vmstate_change_mark(false, "work");
}

static void vmstate_change_prepare_start(void)
{
    VMStateParallel *p;

    change.mark_ns = get_clock();
    QTAILQ_FOREACH(p, &change.list, next) {
        bool late = p->late;

        if (late && !p->late_running) {
            /* From its handlers' point of view it has not stopped at all */
            continue;
        }
        p->late = false;
        if (!vmstate_change_prepare(p, true)) {
            p->late = late;
        }
    }
}

static void vmstate_change_submit_start(void)
{
    VMStateParallel *p;

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active) {
            p->ops->work(p);
        }
    }
}

void vmstate_change_load_begin(void)
{
    assert(bql_locked());

    change.loading = vmstate_change_enable();
    if (change.loading) {
        vmstate_change_prepare_start();
    }
}

void vmstate_change_load_end(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    if (!change.loading) {
        return;
    }
    change.loading = false;
    vmstate_change_submit_start();
    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active) {
            vmstate_change_later(p, true);
        }
    }
}

void vmstate_change_early(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    if (!vmstate_change_enable()) {
        return;
    }
    QTAILQ_FOREACH(p, &change.list, next) {
        if (!p->late && p->ops->early && p->ops->early(p)) {
            vmstate_change_later(p, true);
        }
    }
}

void vmstate_change_begin(bool running)
{
    assert(bql_locked());

    change.enabled = vmstate_change_enable();
    if (!change.enabled) {
        return;
    }
    if (running) {
        vmstate_change_prepare_start();
    } else {
        vmstate_change_stop_begin();
        vmstate_change_wait_stopped();
    }
    vmstate_change_batch_begin();
}

static void vmstate_change_took(void *opaque, bool running, int64_t ns)
{
    VMStateParallel *p;

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->opaque == opaque) {
            p->handler_ns = ns;
            trace_vmstate_change_handler(p->ops->name(p), running,
                                         ns / SCALE_US);
            return;
        }
    }
}

void vmstate_change_call(VMChangeStateHandler *cb, void *opaque, bool running,
                         RunState state)
{
    int64_t begin_ns;

    assert(bql_locked());

    begin_ns = get_clock();
    cb(opaque, running, state);
    if (change.enabled) {
        vmstate_change_took(opaque, running, get_clock() - begin_ns);
    }
}

static void vmstate_change_finish_stop(void)
{
    VMStateParallel *p;

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->active) {
            vmstate_change_commit(p, false);
        }
    }
    change.stopping = false;
}

void vmstate_change_end(bool running)
{
    assert(bql_locked());

    if (!change.enabled) {
        return;
    }
    if (running) {
        vmstate_change_submit_start();
    }
    vmstate_change_mark(running, running ? "prepare" : "handlers");
    vmstate_change_batch_end();
    vmstate_change_mark(running, "notifiers");
    if (running) {
        vmstate_change_finish_start();
    } else {
        vmstate_change_finish_stop();
    }
    vmstate_change_mark(running, running ? "work" : "commit");
}

SwitchoverDeviceList *vmstate_change_devices(void)
{
    SwitchoverDeviceList *head = NULL, **tail = &head;
    VMStateParallel *p;

    assert(bql_locked());

    QTAILQ_FOREACH(p, &change.list, next) {
        SwitchoverDevice *dev = g_new0(SwitchoverDevice, 1);

        dev->device = g_strdup(p->ops->name(p));
        dev->messages = p->last_messages;
        dev->work_us = p->work_ns / SCALE_US;
        dev->handler_us = p->handler_ns / SCALE_US;
        dev->late = p->late && !vmstate_change_done(p);
        dev->reason = g_strdup(p->reason);
        QAPI_LIST_APPEND(tail, dev);
    }
    return head;
}

/* Its backend has been asked to stop, and did not answer yet */
static bool vmstate_change_is_awaited(VMStateParallel *p)
{
    return (p->late ? !p->late_running : change.stopping && p->active) &&
           !vmstate_change_done(p);
}

strList *vmstate_change_stop_awaited(void)
{
    strList *head = NULL, **tail = &head;
    VMStateParallel *p;

    assert(bql_locked());

    QTAILQ_FOREACH(p, &change.list, next) {
        if (vmstate_change_is_awaited(p)) {
            QAPI_LIST_APPEND(tail, g_strdup(p->ops->name(p)));
        }
    }
    return head;
}

bool vmstate_change_is_late(void)
{
    VMStateParallel *p;

    assert(bql_locked());

    QTAILQ_FOREACH(p, &change.list, next) {
        if (vmstate_change_is_awaited(p)) {
            return true;
        }
    }
    return false;
}

bool vmstate_change_may_migrate(Error **errp)
{
    VMStateParallel *p;

    assert(bql_locked());

    QTAILQ_FOREACH(p, &change.list, next) {
        if (p->late && !vmstate_change_done(p)) {
            error_setg(errp, "Backend of device '%s' has not answered since "
                       "the device was %s; wait until it does, or end it",
                       p->ops->name(p),
                       p->late_running ? "started" : "asked to stop");
            return false;
        }
    }
    return true;
}
