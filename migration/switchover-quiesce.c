/*
 * Migration switchover: phase quiesce
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A stopped guest that waits for its disks is downtime.  So look for a moment
 * when none of its requests is in flight while it still runs, and stop it
 * there.  Nothing is held back for that: a busy guest may offer no such
 * moment, and after SWITCHOVER_WINDOW_MS it is stopped all the same.  Then
 * drain-timeout decides about what is in flight.
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/savevm.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"

#define SWITCHOVER_WINDOW_MS 100

/*
 * A window shorter than this does not change what there is to be sent by
 * much: dirty bitmaps need not be read again.
 */
#define SWITCHOVER_WINDOW_SHORT_MS 5

/*
 * So many windows may pass without an attempt because of newly dirtied
 * memory.  After that the guest is stopped right at the next opportunity, as
 * it would have been without a window.
 */
#define SWITCHOVER_WINDOW_MISSES_MAX 3

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

/* Does what is left, including what was dirtied just now, fit the downtime? */
static bool switchover_still_converged(MigrationState *s)
{
    uint64_t must_precopy, can_postcopy;

    qemu_savevm_state_pending_exact(&must_precopy, &can_postcopy);
    return must_precopy + can_postcopy <= s->threshold_size;
}

bool switchover_quiesce_window(SwitchoverState *so, bool precopy)
{
    int64_t start_ns, window_ns;
    bool go_on;
    int ret;

    bql_lock();
    if (!runstate_is_running() || switchover_interrupted(so) ||
        so->quiesce_misses >= SWITCHOVER_WINDOW_MISSES_MAX) {
        bql_unlock();
        return true;
    }

    switchover_log_enter(&so->log, SWITCHOVER_PHASE_QUIESCE);
    start_ns = get_clock();
    ret = switchover_wait_guest_idle(so, start_ns +
                                     SWITCHOVER_WINDOW_MS * SCALE_MS);
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
