/*
 * Migration switchover: phase drain
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Waiting here means: look at a condition with the BQL, then sleep without it
 * until somebody kicks us or the time is over.  In the meantime the main loop
 * runs, so requests complete, QMP commands are answered, and the migration can
 * be cancelled; everything that was true before the sleep has to be looked at
 * again.
 *
 * The disks come to rest in three steps:
 *
 * 1. The guest's devices, see switchover_guest_rest().  The vCPUs are paused:
 *    what the devices have begun comes to an end, and does not wait for I/O
 *    limits.  This is watched from outside, because a drained section would
 *    park the rest of what they do.
 * 2. The flush.  After it, backends of devices are stopped: they do I/O without
 *    QEMU, so this may take as long as a disk of theirs is stuck.
 * 3. Everything else, such as block jobs and exports, which would go on for
 *    ever: see switchover_section().  They are stopped by a drained section.
 *    Nobody may be stuck in it for long, so it is given up after
 *    SWITCHOVER_SECTION_MS while we sleep, and begun again for twice the time.
 *
 * At the end the section is in place, nothing is in flight, and the BQL has
 * been held since this was seen.
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/timed-drain.h"
#include "migration/migration.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qom/object_interfaces.h"
#include "system/iothread.h"
#include "trace.h"

/*
 * Some errors, such as the one of the return path, are announced to nobody.
 * Look for them this often.
 */
#define SWITCHOVER_LOOK_MS 50

/*
 * A monitor command that waits for a request of its own within the drained
 * section blocks the main loop, but not for longer than this.
 */
#define SWITCHOVER_SECTION_MS 80
#define SWITCHOVER_SECTION_MAX_MS 1000

/* Neither a deadline nor a reason to stop waiting */
#define SWITCHOVER_NO_DEADLINE INT64_MAX

static void switchover_drain_wake(void *opaque)
{
    switchover_kick();
}

/* Somebody cannot go on within the section, and we are asleep.  BQL held. */
static void switchover_section_yield(void *opaque)
{
    SwitchoverState *so = opaque;

    switchover_drained_end(so);
    switchover_kick();
}

/* Runs in the main AioContext, BQL held by the main loop or by who polls it */
static void switchover_section_expired(void *opaque)
{
    SwitchoverState *so = opaque;

    trace_switchover_section_expired();
    so->section_ms = MIN(so->section_ms * 2, SWITCHOVER_SECTION_MAX_MS);
    switchover_section_yield(so);
}

void switchover_bql_lock(SwitchoverState *so)
{
    bql_lock();
    while (so->shut_down) {
        bql_unlock();
        pause();
        bql_lock();
    }
}

void switchover_drained_begin(SwitchoverState *so)
{
    assert(bql_locked());

    if (!so->drained) {
        so->drained = true;
        bdrv_timed_drain_begin(switchover_section_yield, so);
    }
}

void switchover_drain_waiter_add(BdrvTimedDrainWaiter *waiter)
{
    bdrv_timed_drain_waiter_add(waiter, switchover_drain_wake, NULL);
}

void switchover_drain_waiter_del(BdrvTimedDrainWaiter *waiter)
{
    bdrv_timed_drain_waiter_del(waiter);
}

/* Always returns 0 if @deadline_ns is SWITCHOVER_NO_DEADLINE */
int switchover_sleep(SwitchoverState *so, int64_t deadline_ns)
{
    QEMUTimer timer;
    int64_t left_ns;

    assert(bql_locked());

    if (deadline_ns != SWITCHOVER_NO_DEADLINE && switchover_interrupted(so)) {
        return -ECANCELED;
    }
    left_ns = deadline_ns - get_clock();
    if (left_ns <= 0) {
        return -ETIMEDOUT;
    }

    aio_timer_init(qemu_get_aio_context(), &timer, QEMU_CLOCK_REALTIME,
                   SCALE_NS, switchover_section_expired, so);
    if (so->drained) {
        timer_mod(&timer, so->section_end_ns);
    }
    bql_unlock();
    switchover_sleep_unlocked(so, MIN(left_ns / SCALE_MS + 1,
                                      SWITCHOVER_LOOK_MS));
    switchover_bql_lock(so);
    timer_del(&timer);
    return 0;
}

void switchover_sleep_unlocked(SwitchoverState *so, int64_t ms)
{
    int timeout_ms = ms;

    /* One look at the condition serves all the kicks that came before it */
    while (qemu_sem_timedwait(&so->wake, timeout_ms) == 0) {
        timeout_ms = 0;
    }
}

typedef struct SwitchoverRound {
    /* Atomic */
    unsigned refs;
    unsigned pending;
} SwitchoverRound;

static void switchover_round_unref(SwitchoverRound *round)
{
    if (qatomic_fetch_dec(&round->refs) == 1) {
        g_free(round);
    }
}

static void switchover_round_arrived(void *opaque)
{
    SwitchoverRound *round = opaque;

    if (qatomic_fetch_dec(&round->pending) == 1) {
        aio_wait_kick();
    }
    switchover_round_unref(round);
}

static void switchover_round_visit(SwitchoverRound *round, AioContext *ctx)
{
    qatomic_inc(&round->refs);
    qatomic_inc(&round->pending);
    aio_bh_schedule_oneshot(ctx, switchover_round_arrived, round);
}

static int switchover_round_visit_iothread(Object *obj, void *opaque)
{
    IOThread *iothread =
        (IOThread *)object_dynamic_cast(obj, TYPE_IOTHREAD);

    if (iothread) {
        switchover_round_visit(opaque, iothread_get_aio_context(iothread));
    }
    return 0;
}

int switchover_round(SwitchoverState *so, int64_t deadline_ns,
                     bool main_context)
{
    SwitchoverRound *round = g_new0(SwitchoverRound, 1);
    int ret = 0;

    round->refs = 1;

    object_child_foreach(object_get_objects_root(),
                         switchover_round_visit_iothread, round);
    if (main_context) {
        switchover_round_visit(round, qemu_get_aio_context());
    }
    while (!ret && qatomic_load_acquire(&round->pending)) {
        ret = switchover_sleep(so, deadline_ns);
    }

    switchover_round_unref(round);
    return ret;
}

void switchover_restore_limits(SwitchoverState *so)
{
    assert(bql_locked());

    if (so->lift) {
        bdrv_io_limits_restore(so->lift);
        so->lift = NULL;
    }
}

/*
 * Wait until the guest's devices have completed what the guest asked them for.
 *
 * A device may be between two steps: it has fetched a request in an IOThread,
 * but not submitted it; or it has completed one, and a BH is going to begin the
 * next.  Round trips take it over that: an AioContext runs BHs before the
 * handlers of file descriptors, so one trip may end before a handler that was
 * due is called, and before that the descriptor may have become ready only
 * after it was polled.
 */
static int switchover_guest_rest(SwitchoverState *so, int64_t deadline_ns)
{
    int ret;

    so->lift = bdrv_io_limits_lift();
    ret = switchover_round(so, deadline_ns, true) ?:
          switchover_round(so, deadline_ns, true) ?:
          switchover_round(so, deadline_ns, true);
    while (!ret && bdrv_timed_drain_guest_busy()) {
        ret = switchover_sleep(so, deadline_ns);
        if (!ret && !bdrv_timed_drain_guest_busy()) {
            ret = switchover_round(so, deadline_ns, true) ?:
                  switchover_round(so, deadline_ns, true);
        }
    }
    switchover_restore_limits(so);
    trace_switchover_guest_rest(ret);
    return ret;
}

/* An error of the host, told apart from the ones that a wait ends with */
static int switchover_flush_error(int ret)
{
    return ret == -ETIMEDOUT || ret == -ECANCELED ? -EIO : ret;
}

/* Returns 0, -ETIMEDOUT or -ECANCELED, or the negative errno of the flush */
static int switchover_flush(SwitchoverState *so, int64_t deadline_ns)
{
    BdrvTimedFlush *flush;
    int flush_ret = 0;
    int ret = 0;

    while (!ret && bdrv_timed_flush_left_behind()) {
        ret = switchover_sleep(so, deadline_ns);
    }
    if (!ret) {
        /* Data may be lost although a flush now succeeds: keep such a disk */
        ret = switchover_flush_error(bdrv_timed_flush_take_late_error());
    }
    if (ret) {
        return ret;
    }

    flush = bdrv_timed_flush_start();
    while (!ret && !bdrv_timed_flush_done(flush, &flush_ret)) {
        ret = switchover_sleep(so, deadline_ns);
    }
    bdrv_timed_flush_release(flush);

    ret = ret ?: switchover_flush_error(flush_ret);
    trace_switchover_flush(ret);
    return ret;
}

/*
 * Let the backends of devices stop, those which do so all at the same time.
 * Nothing is done if they have been stopped, or will be one after the other.
 */
static int switchover_backends_stop(SwitchoverState *so, int64_t deadline_ns)
{
    int ret = 0;

    if (!so->vcpus_paused || so->devices_stopped) {
        return 0;
    }
    vmstate_change_stop_begin();
    if (!vmstate_change_stop_busy()) {
        return 0;
    }
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_DEVICE_STOP);
    while (!ret && vmstate_change_stop_busy()) {
        ret = switchover_sleep(so, deadline_ns);
    }
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_DRAIN);
    return ret;
}

/*
 * Bring everything else to rest by a drained section.  Returns 0, -ETIMEDOUT or
 * -ECANCELED.  With 0, look whether the section is still there.
 */
static int switchover_section(SwitchoverState *so, int64_t deadline_ns)
{
    int ret;

    switchover_drained_begin(so);
    so->section_end_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                         so->section_ms * SCALE_MS;

    ret = switchover_round(so, deadline_ns, false);
    while (!ret && so->drained && bdrv_timed_drain_busy()) {
        ret = switchover_sleep(so, deadline_ns);
    }
    if (ret || bdrv_timed_drain_guest_busy()) {
        switchover_drained_end(so);
    }
    trace_switchover_section(ret, so->drained);
    return ret;
}

/*
 * The steps until a section is in place.  Without @flush only those of the
 * disks that wait for requests.
 */
static int switchover_take_steps(SwitchoverState *so, int64_t deadline_ns,
                                 bool flush)
{
    BdrvTimedDrainWaiter waiter;
    int ret;

    assert(bql_locked());
    assert(!so->drained);

    so->section_ms = SWITCHOVER_SECTION_MS;
    switchover_drain_waiter_add(&waiter);
    do {
        ret = switchover_guest_rest(so, deadline_ns) ?:
              (flush ? switchover_flush(so, deadline_ns) ?:
                       switchover_backends_stop(so, deadline_ns) : 0) ?:
              switchover_section(so, deadline_ns);
    } while (!ret && !so->drained);
    switchover_drain_waiter_del(&waiter);

    return ret;
}

int switchover_settle(SwitchoverState *so, int64_t deadline_ns)
{
    int ret = switchover_take_steps(so, deadline_ns, true);

    if (!ret && switchover_interrupted(so)) {
        switchover_drained_end(so);
        ret = -ECANCELED;
    }
    return ret;
}

void switchover_rest_at_leisure(SwitchoverState *so)
{
    switchover_take_steps(so, SWITCHOVER_NO_DEADLINE, false);
}

int switchover_wait_guest_idle(SwitchoverState *so, int64_t deadline_ns)
{
    BdrvTimedDrainWaiter waiter;
    int ret = 0;

    assert(bql_locked());

    switchover_drain_waiter_add(&waiter);
    while (!ret && bdrv_timed_drain_guest_busy()) {
        ret = switchover_sleep(so, deadline_ns);
    }
    switchover_drain_waiter_del(&waiter);

    return ret;
}
