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
 */

#include "qemu/osdep.h"
#include "block/timed-drain.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "trace.h"

/*
 * Some errors, such as the one of the return path, are announced to nobody.
 * Look for them this often.
 */
#define SWITCHOVER_LOOK_MS 50

static void switchover_drain_wake(void *opaque)
{
    switchover_kick();
}

/*
 * Sleep until something may have happened.  Returns 0 if it is worth looking
 * at the condition again, else -ETIMEDOUT or -ECANCELED.
 */
static int switchover_sleep(SwitchoverState *so, int64_t deadline_ns)
{
    int64_t left_ns;

    assert(bql_locked());

    if (switchover_interrupted(so)) {
        return -ECANCELED;
    }
    left_ns = deadline_ns - get_clock();
    if (left_ns <= 0) {
        return -ETIMEDOUT;
    }

    bql_unlock();
    qemu_sem_timedwait(&so->wake, MIN(DIV_ROUND_UP(left_ns, SCALE_MS),
                                      SWITCHOVER_LOOK_MS));
    bql_lock();
    return 0;
}

/* Is everything at rest?  If requests were held back, let them go. */
static bool switchover_at_rest(SwitchoverState *so, bool guest_stopped)
{
    if (bdrv_timed_drain_busy()) {
        return false;
    }
    if (!guest_stopped || !bdrv_timed_drain_held_back()) {
        return true;
    }

    /*
     * These requests are in no virtqueue and in no device state, so they have
     * to complete here.  vCPUs are paused: there is an end to them.
     */
    trace_switchover_held_back();
    switchover_drained_end(so);
    switchover_drained_begin(so);
    return false;
}

int switchover_settle(SwitchoverState *so, int64_t deadline_ns,
                      bool guest_stopped)
{
    BdrvTimedDrainWaiter waiter;
    int ret = 0;

    assert(bql_locked());
    assert(so->drained);

    bdrv_timed_drain_waiter_add(&waiter, switchover_drain_wake, NULL);
    while (!ret && !switchover_at_rest(so, guest_stopped)) {
        ret = switchover_sleep(so, deadline_ns);
    }
    bdrv_timed_drain_waiter_del(&waiter);

    trace_switchover_settle(ret);
    return ret;
}

int switchover_flush(SwitchoverState *so, int64_t deadline_ns)
{
    BdrvTimedDrainWaiter waiter;
    BdrvTimedFlush *flush;
    int flush_ret = 0;
    int ret;

    assert(bql_locked());

    /* Data of an earlier attempt may be lost: do not hand over such a disk */
    ret = bdrv_timed_flush_take_late_error();
    if (ret) {
        return ret;
    }

    bdrv_timed_drain_waiter_add(&waiter, switchover_drain_wake, NULL);
    flush = bdrv_timed_flush_start();
    while (!ret && !bdrv_timed_flush_done(flush, &flush_ret)) {
        ret = switchover_sleep(so, deadline_ns);
    }
    bdrv_timed_flush_release(flush);
    bdrv_timed_drain_waiter_del(&waiter);

    ret = ret ?: flush_ret ?: bdrv_timed_flush_take_late_error();
    trace_switchover_flush(ret);
    return ret;
}
