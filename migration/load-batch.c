/*
 * Loading devices in batches
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Theory of operation
 *
 * load_batch_section()      before each section: opens the batch, if it is not
 *                           open, or ends it
 * load_batch_defer()        by a device in its section: something to do later
 * load_batch_before_wait()  commits and does what waits; the next section opens
 *                           the batch again
 * load_batch_end()          the same, for good; tells what failed
 *
 * A commit costs the more the more devices there are.  A destination that is
 * faster than the stream would commit for each chunk that arrives.  So, before
 * it does, it lets everybody wait for the next chunk for as long as its last
 * commit took, and so loses at most as much again; but never for long.
 *
 * The batch may also be ended by who releases the BQL.  What waits is not done
 * there, as nobody there expects it to be done.
 *
 * The load runs in a coroutine, except for snapshots and COLO.  Devices do not
 * expect to be in a coroutine when they do what waits (virtio devices touch
 * the block layer and the network when they get their features), so it is done
 * in a BH, a single one for all of them.
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "exec/memory-batch.h"
#include "hw/qdev-core.h"
#include "io/channel-buffer.h"
#include "io/channel-command.h"
#include "io/channel-file.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "io/channel-wake.h"
#include "migration/load-batch.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/queue.h"
#include "qemu/timer.h"
#include "trace.h"

/* Nobody gets an answer meanwhile */
#define LONGEST_WAIT_MS 10

typedef struct LoadBatchWork {
    DeviceState *owner;
    LoadBatchFunc *func;
    void *opaque;
    GDestroyNotify destroy;
    char *idstr;
    uint32_t instance_id;
    QSIMPLEQ_ENTRY(LoadBatchWork) next;
} LoadBatchWork;

/* Protected by the BQL */
static struct {
    bool active;
    unsigned sections;
    unsigned deferred;
    int64_t commit_us;
    /* Of the section that is loaded now */
    const char *idstr;
    uint32_t instance_id;
    /* What waits, and the first error of what was done */
    QSIMPLEQ_HEAD(, LoadBatchWork) queue;
    int error;
} batch = {
    .queue = QSIMPLEQ_HEAD_INITIALIZER(batch.queue),
};

/* None of these leaves the coroutine inside of a read */
static const char *const channels_that_return[] = {
    TYPE_QIO_CHANNEL_BUFFER,
    TYPE_QIO_CHANNEL_COMMAND,
    TYPE_QIO_CHANNEL_FILE,
    TYPE_QIO_CHANNEL_SOCKET,
    TYPE_QIO_CHANNEL_TLS,
    TYPE_QIO_CHANNEL_WAKE,
};

/* The rest is not looked at by threads that have no batch */
static bool have_batch(void)
{
    return bql_locked() && batch.active;
}

bool load_batch_defer(DeviceState *owner, LoadBatchFunc *func, void *opaque,
                      GDestroyNotify destroy)
{
    LoadBatchWork *work;

    if (!have_batch()) {
        return false;
    }
    work = g_new(LoadBatchWork, 1);
    *work = (LoadBatchWork) {
        .owner = DEVICE(object_ref(OBJECT(owner))),
        .func = func,
        .opaque = opaque,
        .destroy = destroy,
        .idstr = g_strdup(batch.idstr),
        .instance_id = batch.instance_id,
    };
    QSIMPLEQ_INSERT_TAIL(&batch.queue, work, next);
    batch.deferred++;
    return true;
}

static void do_work(LoadBatchWork *work)
{
    int64_t start_us = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    int ret;

    /* It may have been unplugged while the load waited for the stream */
    if (batch.error || !work->owner->realized) {
        return;
    }
    ret = work->func(work->opaque);
    trace_load_batch_work(work->idstr, work->instance_id, ret,
                          qemu_clock_get_us(QEMU_CLOCK_REALTIME) - start_us);
    if (ret < 0) {
        error_report("error while loading state for instance 0x%"PRIx32" of"
                     " device '%s'", work->instance_id, work->idstr);
        batch.error = ret;
    }
}

static void do_all_work(void)
{
    LoadBatchWork *work;

    while ((work = QSIMPLEQ_FIRST(&batch.queue))) {
        QSIMPLEQ_REMOVE_HEAD(&batch.queue, next);
        do_work(work);
        work->destroy(work->opaque);
        object_unref(OBJECT(work->owner));
        g_free(work->idstr);
        g_free(work);
    }
}

static void do_all_work_bh(void *opaque)
{
    do_all_work();
    aio_co_wake(opaque);
}

static void coroutine_mixed_fn finish(const char *why)
{
    int64_t start_us = qemu_clock_get_us(QEMU_CLOCK_REALTIME);

    trace_load_batch_finish(why, batch.sections, batch.deferred);
    batch.sections = 0;
    batch.deferred = 0;
    memory_batch_end(why);
    batch.commit_us = qemu_clock_get_us(QEMU_CLOCK_REALTIME) - start_us;
    if (QSIMPLEQ_EMPTY(&batch.queue)) {
        return;
    }
    if (qemu_in_coroutine()) {
        aio_bh_schedule_oneshot(qemu_get_current_aio_context(), do_all_work_bh,
                                qemu_coroutine_self());
        qemu_coroutine_yield();
    } else {
        do_all_work();
    }
}

static void coroutine_mixed_fn finish_if_begun(const char *why)
{
    if (have_batch() && batch.sections) {
        finish(why);
    }
}

static gboolean note_readable(QIOChannel *ioc, GIOCondition condition,
                              gpointer opaque)
{
    *(bool *)opaque = true;
    return G_SOURCE_REMOVE;
}

static gboolean note_timeout(gpointer opaque)
{
    *(bool *)opaque = true;
    return G_SOURCE_REMOVE;
}

/* Can @ioc be read within @timeout_ms?  Nothing else happens meanwhile. */
static bool poll_channel(QIOChannel *ioc, unsigned timeout_ms)
{
    GMainContext *context = g_main_context_new();
    g_autoptr(GSource) timer = g_timeout_source_new(timeout_ms);
    GSource *watch;
    bool readable = false, timed_out = false;

    watch = qio_channel_add_watch_source(ioc, G_IO_IN, note_readable, &readable,
                                         NULL, context);
    g_source_set_callback(timer, note_timeout, &timed_out, NULL);
    g_source_attach(timer, context);
    while (!readable && !timed_out) {
        g_main_context_iteration(context, true);
    }
    g_source_destroy(timer);
    g_source_destroy(watch);
    g_source_unref(watch);
    g_main_context_unref(context);
    return readable;
}

int coroutine_mixed_fn load_batch_section(bool batched, const char *idstr,
                                          uint32_t instance_id)
{
    if (!batched || !bql_locked()) {
        return load_batch_end();
    }
    if (batch.error) {
        return batch.error;
    }
    batch.active = true;
    batch.sections++;
    batch.idstr = idstr;
    batch.instance_id = instance_id;
    memory_batch_begin();
    return 0;
}

int coroutine_mixed_fn load_batch_end(void)
{
    int ret;

    if (!have_batch()) {
        return 0;
    }
    finish("end of devices");
    ret = batch.error;
    batch.active = false;
    batch.error = 0;
    batch.idstr = NULL;
    return ret;
}

void coroutine_mixed_fn load_batch_before_read(QIOChannel *ioc)
{
    int i;

    if (!have_batch()) {
        return;
    }
    for (i = 0; i < ARRAY_SIZE(channels_that_return); i++) {
        if (object_dynamic_cast(OBJECT(ioc), channels_that_return[i])) {
            return;
        }
    }
    finish_if_begun("channel that may wait");
}

bool coroutine_mixed_fn load_batch_before_channel_wait(QIOChannel *ioc)
{
    unsigned wait_ms;

    if (!have_batch() || !batch.sections) {
        return false;
    }
    wait_ms = MIN(DIV_ROUND_UP(batch.commit_us, 1000), LONGEST_WAIT_MS);
    if (wait_ms && poll_channel(ioc, wait_ms)) {
        return true;
    }
    finish("wait for the stream");
    return false;
}

void coroutine_mixed_fn load_batch_before_wait(void)
{
    finish_if_begun("wait");
}
