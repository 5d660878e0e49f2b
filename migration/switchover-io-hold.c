/*
 * Migration switchover: holding back disk requests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * With the capability inflight-free-switchover.  Guest requests are held in
 * their virtqueues, and what submits requests in the background is paused.
 *
 * While the guest runs, a timer in the main AioContext ends both: the guest
 * does not have to rely on the migration thread, which may be busy sending, or
 * be waiting for the BQL while its holder waits for an export to come to an
 * end.  While the guest is stopped, its requests stay where they are, for they
 * belong to the destination; the timer then only ends what was paused.
 */

#include "qemu/osdep.h"
#include "block/background-pause.h"
#include "hw/virtio/virtio-hold.h"
#include "migration/migration.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "trace.h"

/* Main AioContext, BQL held */
static void switchover_io_hold_expired(void *opaque)
{
    SwitchoverState *so = opaque;

    trace_switchover_io_hold_expired(so->attempting);
    if (so->attempting) {
        switchover_background_end(so);
    } else {
        if (so->window.open) {
            switchover_window_close(so, false);
            switchover_log_enter(&so->log, SWITCHOVER_PHASE_APPROACH);
        }
        switchover_io_hold_end(so);
    }
    switchover_kick();
}

void switchover_io_hold_shutdown(SwitchoverState *so)
{
    assert(bql_locked());

    if (so->hold_timer) {
        timer_del(so->hold_timer);
        switchover_io_hold_expired(so);
    }
}

void switchover_io_hold_begin(SwitchoverState *so, unsigned depth)
{
    assert(bql_locked());

    if (!so->holding) {
        so->holding = true;
        virtio_hold_begin(&so->hold, depth);
    } else {
        virtio_hold_set_depth(&so->hold, depth);
    }
}

void switchover_background_begin(SwitchoverState *so)
{
    assert(bql_locked());

    if (!so->background) {
        so->background = bdrv_background_pause();
    }
}

void switchover_io_hold_until(SwitchoverState *so, int64_t end_ns)
{
    assert(bql_locked());

    if (!so->hold_timer) {
        so->hold_timer = aio_timer_new(qemu_get_aio_context(),
                                       QEMU_CLOCK_REALTIME, SCALE_NS,
                                       switchover_io_hold_expired, so);
    }
    timer_mod(so->hold_timer, end_ns);
}

void switchover_background_end(SwitchoverState *so)
{
    BdrvBackgroundPause *background = so->background;

    assert(bql_locked());

    if (background) {
        so->background = NULL;
        bdrv_background_resume(background);
    }
}

void switchover_io_hold_end(SwitchoverState *so)
{
    assert(bql_locked());

    if (so->hold_timer) {
        timer_del(so->hold_timer);
    }
    switchover_background_end(so);
    if (so->holding) {
        so->holding = false;
        virtio_hold_end(&so->hold);
        so->window.next_ns = get_clock() +
                             so->ms->parameters.quiesce_interval * SCALE_MS;
    }
}
