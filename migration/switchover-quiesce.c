/*
 * Migration switchover: phase quiesce
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A stopped guest that waits for its disks is downtime.  So find a moment when
 * nothing is in flight while it still runs, and stop it there.
 *
 * With the capability inflight-free-switchover such a moment is made.  In a
 * window of quiesce-window at most, new requests are held
 * (switchover-io-hold.c), those in flight are waited for, and the disks are
 * flushed.  Memory is iterated meanwhile: switchover_quiesce() is called again
 * and again as long as what is left to send fits into the downtime, and the
 * window is a hit if at such a moment nothing is in flight.  It ends by a timer
 * otherwise, and guest I/O is left alone for quiesce-interval.  After some
 * windows without a hit the guest is stopped all the same, and the drain waits
 * for what is in flight.
 *
 * Without the capability such a moment is only looked for, if drain-timeout is
 * set: nothing is held back, so a busy guest may offer none.
 */

#include "qemu/osdep.h"
#include "block/background-pause.h"
#include "migration/migration.h"
#include "migration/savevm.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"

/* Without the capability: time to look for a moment without requests */
#define SWITCHOVER_LOOK_WINDOW_MS 100

/*
 * A wait shorter than this does not change what there is to be sent by much:
 * dirty bitmaps need not be read again.
 */
#define SWITCHOVER_WINDOW_SHORT_MS 5

/*
 * So many waits may pass without an attempt because of newly dirtied memory.
 * After that the guest is stopped right at the next opportunity, as it would
 * have been without a wait.
 */
#define SWITCHOVER_WINDOW_MISSES_MAX 3

/*
 * Windows without a hit, and the time between them, may add a tenth to the time
 * which the migration has taken; but there are so many in any case, and no more
 * than the other number.  If it was not the disks that took too long, but the
 * memory that was dirtied too fast, then another window does not promise more
 * than this one did.
 */
#define SWITCHOVER_FRUITLESS_SHARE 10
#define SWITCHOVER_FRUITLESS_MIN_DISKS 2
#define SWITCHOVER_FRUITLESS_MIN_MEMORY 1
#define SWITCHOVER_FRUITLESS_MAX 20

/*
 * During a window, memory is iterated after waiting for this long; or for twice
 * as long as iterating took, if that is more: reading the dirty bitmaps of a
 * large guest takes time, and so does sending if the bandwidth is limited.  At
 * first, what is to be sent does fit, so wait for the longer time.
 */
#define SWITCHOVER_SLICE_MIN_MS 5
#define SWITCHOVER_SLICE_MAX_MS 50

/* Between windows, look whether memory has to be sent after this long */
#define SWITCHOVER_INTERVAL_SLICE_MS 50

static void switchover_quiesce_account(SwitchoverState *so, int64_t window_ns,
                                       bool hit)
{
    uint64_t window_ms = window_ns / SCALE_MS;

    QEMU_LOCK_GUARD(&so->lock);
    so->quiesce.windows++;
    so->quiesce.hits += hit;
    so->quiesce.total_ms += window_ms;
    so->quiesce.max_ms = MAX(so->quiesce.max_ms, window_ms);
}

/* With the capability */

static uint32_t switchover_fruitless_max(SwitchoverState *so)
{
    MigrationState *s = so->ms;
    int64_t elapsed_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) -
                         s->start_time;
    int64_t each_ms = s->parameters.quiesce_window +
                      s->parameters.quiesce_interval;
    int64_t max = elapsed_ms / SWITCHOVER_FRUITLESS_SHARE / each_ms;

    return MIN(MAX(max, so->window.rested ? SWITCHOVER_FRUITLESS_MIN_MEMORY :
                                            SWITCHOVER_FRUITLESS_MIN_DISKS),
               SWITCHOVER_FRUITLESS_MAX);
}

static void switchover_window_open(SwitchoverState *so)
{
    SwitchoverWindow *w = &so->window;

    assert(bql_locked());
    assert(!w->open && !w->flush);

    w->open = true;
    w->settled = false;
    w->flushed = false;
    w->rested = false;
    w->depth = so->ms->parameters.quiesce_queue_depth;
    w->begin_ns = get_clock();
    w->end_ns = w->begin_ns +
                so->ms->parameters.quiesce_window * SCALE_MS;

    switchover_log_enter(&so->log, SWITCHOVER_PHASE_QUIESCE);
    switchover_io_hold_begin(so, w->depth);
    switchover_background_begin(so);
    switchover_io_hold_until(so, w->end_ns);
    trace_switchover_window_open(w->depth);
}

void switchover_window_close(SwitchoverState *so, bool hit)
{
    SwitchoverWindow *w = &so->window;
    int64_t now_ns = get_clock();

    assert(bql_locked());

    if (!w->open) {
        return;
    }
    w->open = false;
    w->hit = hit;
    if (w->flush) {
        bdrv_timed_flush_release(w->flush);
        w->flush = NULL;
    }

    switchover_quiesce_account(so, now_ns - w->begin_ns, hit);
    trace_switchover_window_close((now_ns - w->begin_ns) / SCALE_US, hit);
    WITH_QEMU_LOCK_GUARD(&so->lock) {
        so->quiesce.fruitless += !hit;
        so->quiesce.fruitless_max = switchover_fruitless_max(so);
    }
}

static bool switchover_window_at_rest(SwitchoverState *so)
{
    return !bdrv_timed_drain_in_flight() &&
           !(so->background && bdrv_background_busy(so->background));
}

/* Take the result of a flush that is done */
static bool switchover_window_flush_done(SwitchoverState *so)
{
    SwitchoverWindow *w = &so->window;
    int ret;

    if (!w->flush) {
        return true;
    }
    if (!bdrv_timed_flush_done(w->flush, &ret)) {
        return false;
    }
    bdrv_timed_flush_release(w->flush);
    w->flush = NULL;
    w->flushed = true;
    if (ret) {
        /* The attempt will fail because of it */
        bdrv_timed_flush_put_late_error(ret);
    }
    return true;
}

/* Take the next step towards rest; returns whether there is none left */
static bool switchover_window_look(SwitchoverState *so)
{
    SwitchoverWindow *w = &so->window;

    if (!switchover_window_flush_done(so) || !switchover_window_at_rest(so)) {
        return false;
    }
    if (w->depth) {
        /* A request may have come in between: see that no other does */
        w->depth = 0;
        w->settled = false;
        switchover_io_hold_begin(so, 0);
        return false;
    }
    if (!w->flushed) {
        w->flush = bdrv_timed_flush_start();
        return switchover_window_flush_done(so) &&
               switchover_window_at_rest(so);
    }
    return true;
}

/*
 * Wait until everything is at rest and flushed.  Drops the BQL while it sleeps;
 * the window may be over afterwards.  Returns 0, -ETIMEDOUT or -ECANCELED.
 */
static int switchover_window_wait(SwitchoverState *so, int64_t deadline_ns)
{
    SwitchoverWindow *w = &so->window;
    BdrvTimedDrainWaiter waiter;
    int ret = 0;

    switchover_drain_waiter_add(&waiter);
    while (!ret && w->open) {
        if (!w->settled) {
            /* Until then, IOThreads may submit what they have fetched */
            ret = switchover_round(so, w->end_ns, true);
            w->settled = !ret;
        } else if (switchover_window_look(so)) {
            break;
        } else if (w->settled) {
            ret = switchover_sleep(so, deadline_ns);
        }
    }
    switchover_drain_waiter_del(&waiter);

    return ret ?: (w->open ? 0 : -ETIMEDOUT);
}

static int64_t switchover_window_slice_ms(SwitchoverState *so, int64_t now_ns)
{
    int64_t iterating_ms = (now_ns - so->window.left_ns) / SCALE_MS;

    if (!so->window.left_ns) {
        return SWITCHOVER_SLICE_MAX_MS;
    }
    return MIN(MAX(2 * iterating_ms, SWITCHOVER_SLICE_MIN_MS),
               SWITCHOVER_SLICE_MAX_MS);
}

/* Does what is left, including what was dirtied just now, fit the downtime? */
static bool switchover_still_converged(MigrationState *s)
{
    uint64_t must_precopy, can_postcopy;

    qemu_savevm_state_pending_exact(&must_precopy, &can_postcopy);
    return must_precopy + can_postcopy <= s->threshold_size;
}

/*
 * Everything is at rest after a wait.  Is it still, and does the memory that
 * was dirtied meanwhile fit?  Drops the BQL, which reading the dirty bitmaps
 * takes by itself.
 */
static bool switchover_window_confirm(SwitchoverState *so)
{
    bool converged;

    bql_unlock();
    converged = switchover_still_converged(so->ms);
    switchover_bql_lock(so);

    return converged && so->window.open && switchover_window_look(so);
}

/* Whether another window makes sense before the drain has its turn */
static bool switchover_window_is_promising(SwitchoverState *so)
{
    if (so->quiesce.fruitless &&
        so->quiesce.fruitless >= switchover_fruitless_max(so)) {
        return false;
    }
    /* What hangs already will not come to an end within the window */
    return !bdrv_has_request_since(get_clock() -
                                   SWITCHOVER_HANG_MS * SCALE_MS);
}

static bool switchover_window_step(SwitchoverState *so, bool precopy)
{
    SwitchoverWindow *w = &so->window;
    int64_t now_ns = get_clock();
    int ret;

    if (!w->open) {
        if (!switchover_window_is_promising(so)) {
            return true;
        }
        if (precopy && now_ns < w->next_ns) {
            bql_unlock();
            switchover_sleep_unlocked(so, SWITCHOVER_INTERVAL_SLICE_MS);
            switchover_bql_lock(so);
            return false;
        }
        switchover_window_open(so);
        w->left_ns = 0;
    }

    ret = switchover_window_wait(so, !precopy ? w->end_ns :
                                 MIN(w->end_ns, now_ns + SCALE_MS *
                                     switchover_window_slice_ms(so, now_ns)));
    w->rested |= !ret;
    if (!ret && precopy &&
        get_clock() - now_ns > SWITCHOVER_WINDOW_SHORT_MS * SCALE_MS &&
        !switchover_window_confirm(so)) {
        return false;
    }
    if (!ret || (!precopy && ret == -ETIMEDOUT)) {
        /* Should the guest not stop in time, it gets its requests back */
        switchover_window_close(so, !ret);
        return true;
    }
    return false;
}

bool switchover_io_hold_window(SwitchoverState *so, bool precopy)
{
    bool go_on;

    switchover_bql_lock(so);
    if (!runstate_is_running() || migrate_has_error(so->ms)) {
        /* An error that is none of a file shows in the completion only */
        bql_unlock();
        return true;
    }
    go_on = !switchover_interrupted(so) && switchover_window_step(so, precopy);
    so->window.left_ns = get_clock();
    bql_unlock();

    return go_on;
}

/* Without it */

bool switchover_look_window(SwitchoverState *so, bool precopy)
{
    int64_t start_ns, window_ns;
    bool go_on;
    int ret;

    switchover_bql_lock(so);
    if (!runstate_is_running() || switchover_interrupted(so) ||
        so->quiesce_misses >= SWITCHOVER_WINDOW_MISSES_MAX) {
        bql_unlock();
        return true;
    }

    switchover_log_enter(&so->log, SWITCHOVER_PHASE_QUIESCE);
    start_ns = get_clock();
    ret = switchover_wait_guest_idle(so, start_ns +
                                     SWITCHOVER_LOOK_WINDOW_MS * SCALE_MS);
    window_ns = get_clock() - start_ns;
    bql_unlock();

    switchover_quiesce_account(so, window_ns, !ret);
    go_on = !precopy || window_ns <= SWITCHOVER_WINDOW_SHORT_MS * SCALE_MS ||
            switchover_still_converged(so->ms);
    trace_switchover_quiesce(window_ns / SCALE_US, ret, go_on);

    if (go_on) {
        so->quiesce_misses = 0;
        return true;
    }

    so->quiesce_misses++;
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_APPROACH);
    return false;
}
