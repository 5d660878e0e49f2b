/*
 * Migration switchover: the last second of a migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See migration/switchover.h for the phases and who drives them.
 */

#include "qemu/osdep.h"
#include "block/timed-drain.h"
#include "migration/global_state.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/options.h"
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "migration/switchover-defer.h"
#include "migration/switchover-internal.h"
#include "migration/switchover.h"
#include "qapi/error.h"
#include "qapi/qapi-events-run-state.h"
#include "qapi/qapi-events-switchover.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/cpu-timers.h"
#include "system/cpus.h"
#include "system/replay.h"
#include "system/runstate.h"
#include "trace.h"

/* So many requests are listed in MIGRATION_DRAIN_TIMEOUT */
#define SWITCHOVER_REQUESTS_MAX 64

/* Time between attempts: doubled after each, within these limits */
#define SWITCHOVER_RETRY_MIN_MS 500
#define SWITCHOVER_RETRY_MAX_MS 8000

/*
 * While an attempt is not due and nothing is to be sent, the next pass may wait
 * this long.  Whether the attempt is due is looked at more often.
 */
#define SWITCHOVER_PASS_MS 1000
#define SWITCHOVER_PACE_MS 50

static SwitchoverState switchover;

static void __attribute__((constructor)) switchover_init(void)
{
    qemu_mutex_init(&switchover.lock);
    switchover_log_init(&switchover.log);
    qemu_sem_init(&switchover.wake, 0);
    vmstate_change_set_notify(switchover_kick);
    switchover.deferred_stop = RUN_STATE__MAX;
}

void switchover_kick(void)
{
    qemu_sem_post(&switchover.wake);
}

/* Is this a migration that the capabilities and parameters here are for? */
static bool switchover_is_ordinary(SwitchoverState *so)
{
    return !migrate_mode_is_cpr(so->ms) && !migrate_colo() &&
           replay_mode == REPLAY_MODE_NONE;
}

bool switchover_is_bounded(SwitchoverState *so)
{
    return so->ms->parameters.drain_timeout && switchover_is_ordinary(so);
}

bool switchover_holds(SwitchoverState *so)
{
    return migrate_inflight_free_switchover() && switchover_is_ordinary(so);
}

bool switchover_interrupted(SwitchoverState *so)
{
    MigrationStatus state = qatomic_read(&so->ms->state);

    return (state != MIGRATION_STATUS_ACTIVE &&
            state != MIGRATION_STATUS_DEVICE) ||
           migrate_has_error(so->ms) ||
           qemu_file_get_error(so->ms->to_dst_file);
}

SwitchoverPhase switchover_phase(void)
{
    return switchover_log_phase(&switchover.log);
}

SwitchoverInfo *switchover_info(void)
{
    SwitchoverState *so = &switchover;
    SwitchoverInfo *info = switchover_log_info(&so->log);

    if (!info) {
        return switchover_incoming_info();
    }

    info->devices = switchover_vmstate_devices();

    QEMU_LOCK_GUARD(&so->lock);
    info->attempts = so->attempts;
    info->drain_timeouts = so->drain_timeouts;
    info->in_flight_at_stop = so->in_flight_at_stop;
    *info->quiesce = so->quiesce;
    if (so->ms && switchover_holds(so)) {
        info->quiesce->watched = switchover_watched_devices();
    }
    return info;
}

bool switchover_may_begin(Error **errp)
{
    MigrationState *s = migrate_get_current();

    if (s->migration_thread_running) {
        /* It says "failed" before the guest runs again */
        error_setg(errp, "The last migration is still ending");
        return false;
    }
    if (s->parameters.postcopy_after_passes && !migrate_postcopy_ram()) {
        error_setg(errp, "Parameter 'postcopy-after-passes' needs capability "
                   "'postcopy-ram': set it, or set the parameter to 0");
        return false;
    }
    if (migrate_postcopy_ready() && !s->send_configuration) {
        error_setg(errp, "Capability 'postcopy-ready' needs a machine type "
                   "that tells the destination about it: unset it");
        return false;
    }
    return vmstate_change_may_migrate(errp);
}

void switchover_begin(MigrationState *s)
{
    SwitchoverState *so = &switchover;

    assert(bql_locked());
    assert(!so->drained && !so->deferring && !so->holding && !so->background);

    /* Whatever it was about, the guest has been here with it ever since */
    bdrv_timed_flush_take_late_error();

    so->ms = s;
    so->vcpus_paused = false;
    so->devices_stopped = false;
    so->quiesce_misses = 0;
    memset(&so->window, 0, sizeof(so->window));
    so->first_postcopy = true;
    so->retrying = false;
    so->retry_delay_ms = 0;
    so->deferred_stop = RUN_STATE__MAX;

    switchover_log_reset(&so->log);

    QEMU_LOCK_GUARD(&so->lock);
    so->attempts = 0;
    so->drain_timeouts = 0;
    so->in_flight_at_stop = 0;
    memset(&so->quiesce, 0, sizeof(so->quiesce));
}

/* Approach: when to try */

bool switchover_retrying(MigrationState *s)
{
    return switchover.retrying;
}

bool switchover_first_postcopy(MigrationState *s)
{
    bool first = switchover.first_postcopy;

    switchover.first_postcopy = false;
    return first;
}

/*
 * A disk that hangs: there is no point in trying again until the requests of
 * the last attempt are through, and once they are, no point in waiting.  A disk
 * that is merely slow: its requests come through soon, others take their
 * place, and only time helps.  What hangs was old when the attempt was given
 * up, or outlives the shortest delay after it.
 */
static bool switchover_hang_is_over(SwitchoverState *so, bool look)
{
    bool stuck;

    if (so->retry_looked && !so->retry_hung) {
        return false;
    }
    if (!so->retry_hung && !look) {
        return false;
    }

    switchover_bql_lock(so);
    stuck = vmstate_change_is_late() ||
            bdrv_has_request_since(so->retry_since_ns);
    bql_unlock();

    if (!so->retry_hung) {
        so->retry_looked = true;
        so->retry_hung = stuck;
        return false;
    }
    return !stuck;
}

bool switchover_may_attempt(MigrationState *s)
{
    SwitchoverState *so = &switchover;
    int64_t since_ms;

    if (!so->retrying || s->state != MIGRATION_STATUS_ACTIVE) {
        return true;
    }

    since_ms = (get_clock() - so->retry_since_ns) / SCALE_MS;
    if (since_ms < so->retry_delay_ms &&
        !switchover_hang_is_over(so, since_ms >= SWITCHOVER_RETRY_MIN_MS)) {
        return false;
    }

    return true;
}

void switchover_pace(MigrationState *s, uint64_t pending_bytes)
{
    SwitchoverState *so = &switchover;
    int64_t end_ns = get_clock() + SWITCHOVER_PASS_MS * SCALE_MS;

    if (pending_bytes > s->threshold_size) {
        return;
    }
    while (!switchover_may_attempt(s) && !switchover_interrupted(so) &&
           get_clock() < end_ns) {
        switchover_sleep_unlocked(so, SWITCHOVER_PACE_MS);
    }
}

bool switchover_quiesce(MigrationState *s, bool precopy)
{
    SwitchoverState *so = &switchover;

    if (s->state != MIGRATION_STATUS_ACTIVE) {
        return true;
    }
    if (switchover_holds(so)) {
        return switchover_io_hold_window(so, precopy);
    }
    return !switchover_is_bounded(so) || switchover_look_window(so, precopy);
}

/* Stop */

void switchover_drained_end(SwitchoverState *so)
{
    assert(bql_locked());

    if (so->drained) {
        so->drained = false;
        bdrv_timed_drain_end();
    }
}

static void switchover_pause_vcpus(SwitchoverState *so)
{
    RunState old_state = runstate_get();

    trace_vmstate_downtime_checkpoint("src-downtime-start");
    so->ms->downtime_start = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    so->ms->vm_old_state = old_state;
    global_state_store();

    /* The BQL is dropped while disks are waited for, or the channel */
    so->deferring = true;
    so->vcpus_paused = runstate_is_live(old_state);
    if (so->vcpus_paused) {
        vm_set_suspended(old_state == RUN_STATE_SUSPENDED);
    }
    runstate_set(RUN_STATE_FINISH_MIGRATE);
    if (so->vcpus_paused) {
        cpu_disable_ticks();
        if (old_state == RUN_STATE_RUNNING) {
            pause_all_vcpus();
        }
    }
    so->stopped_ns = get_clock();

    /*
     * Written to the monitor's socket by this thread, so that it does not
     * matter how long we keep the BQL from here on.
     */
    qapi_event_send_migration_source_stopped(
        stat64_get(&mig_stats.dirty_sync_count), ram_bytes_remaining(),
        g_get_monotonic_time());
}

static void switchover_resume_vcpus(SwitchoverState *so)
{
    vm_set_suspended(false);
    cpu_enable_ticks();
    runstate_set(so->ms->vm_old_state);
    resume_all_vcpus();
}

static void switchover_stop_devices(SwitchoverState *so)
{
    if (!so->vcpus_paused) {
        /* They were stopped together with the guest */
        return;
    }
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_DEVICE_STOP);
    vm_state_notify(false, RUN_STATE_FINISH_MIGRATE);
    qapi_event_send_stop();
    so->devices_stopped = true;
}

/* Can the guest be left in @state when the switchover backs out? */
static bool switchover_can_defer(RunState state)
{
    switch (state) {
    case RUN_STATE_GUEST_PANICKED:
    case RUN_STATE_INTERNAL_ERROR:
    case RUN_STATE_IO_ERROR:
    case RUN_STATE_PAUSED:
    case RUN_STATE_SHUTDOWN:
    case RUN_STATE_WATCHDOG:
        return true;
    default:
        /* A step on the way to something else, such as loading a snapshot */
        return false;
    }
}

/*
 * Let the guest go on at the source as if nothing had been tried.  If somebody
 * asked to stop it in the meantime, this takes effect now.
 *
 * A device that was stopped may wait for its disk when it is started again, to
 * move it to an IOThread.  That is waited for here, without the BQL: the guest
 * cannot run sooner, but everything else can.
 */
static void switchover_back_out(SwitchoverState *so)
{
    RunState old_state = so->ms->vm_old_state;
    RunState deferred_stop, requested;

    assert(bql_locked());

    trace_switchover_back_out(so->vcpus_paused, so->devices_stopped);

    vmstate_change_stop_cancel();
    if (!so->vcpus_paused || !so->devices_stopped) {
        switchover_drained_end(so);
    } else if (!so->drained) {
        switchover_rest_at_leisure(so);
    }

    deferred_stop = so->deferred_stop;
    if (qemu_vmstop_requested(&requested) && switchover_can_defer(requested)) {
        /* The main loop did not come round to it yet; vm_start() forgets it */
        deferred_stop = requested;
    }
    so->deferring = false;
    so->deferred_stop = RUN_STATE__MAX;
    so->ms->vm_old_state = -1;

    if (!so->vcpus_paused) {
        runstate_set(old_state);
    } else if (!so->devices_stopped) {
        so->ms->vm_old_state = old_state;
        switchover_resume_vcpus(so);
        so->ms->vm_old_state = -1;
        if (deferred_stop != RUN_STATE__MAX) {
            qemu_system_vmstop_request_prepare();
            qemu_system_vmstop_request(deferred_stop);
        }
    } else if (deferred_stop != RUN_STATE__MAX) {
        runstate_set(deferred_stop);
    } else {
        vm_start();
    }
    so->vcpus_paused = false;
    so->devices_stopped = false;
    so->attempting = false;
    switchover_drained_end(so);
    switchover_io_hold_end(so);

    switchover_log_enter(&so->log, SWITCHOVER_PHASE_APPROACH);
}

bool switchover_defer_vm_stop(RunState state)
{
    assert(bql_locked());

    if (!switchover.deferring || !switchover_can_defer(state)) {
        return false;
    }
    trace_switchover_defer_vm_stop(RunState_str(state));
    switchover.deferred_stop = state;
    return true;
}

/* Drain: what to do when it takes too long */

static char *switchover_join(strList *names)
{
    GString *joined = g_string_new(NULL);

    for (; names; names = names->next) {
        g_string_append_printf(joined, "%s'%s'", joined->len ? ", " : "",
                               names->value);
    }
    return g_string_free(joined, false);
}

static void switchover_error_timeout(SwitchoverState *so, Error **errp,
                                     InflightRequestList *requests,
                                     uint32_t omitted, strList *devices)
{
    InflightRequest *req = requests ? requests->value : NULL;
    g_autoptr(GString) what = g_string_new("no single request is known");

    if (devices) {
        g_autofree char *names = switchover_join(devices);

        error_setg(errp, "Devices did not stop within drain-timeout (%" PRIu64
                   " ms), because their backends did not answer: %s",
                   so->ms->parameters.drain_timeout, names);
        return;
    }
    if (req) {
        g_string_printf(what, "%s", InflightRequestKind_str(req->kind));
        if (req->has_offset) {
            g_string_append_printf(what, " of %" PRId64 " bytes at offset %"
                                   PRId64, req->bytes, req->offset);
        }
        g_string_append_printf(what, " on block node '%s'", req->node);
        if (req->device) {
            g_string_append_printf(what, " of device '%s'", req->device);
        }
        if (req->has_age_ms) {
            g_string_append_printf(what, " in flight for %" PRIu64 " ms",
                                   req->age_ms);
        }
        omitted += QAPI_LIST_LENGTH(requests) - 1;
        if (omitted) {
            g_string_append_printf(what, ", and %" PRIu32 " more requests",
                                   omitted);
        }
    }
    error_setg(errp, "Disks did not come to rest within drain-timeout "
               "(%" PRIu64 " ms): %s", so->ms->parameters.drain_timeout,
               what->str);
}

static void switchover_schedule_retry(SwitchoverState *so)
{
    int64_t delay_ms = so->retry_delay_ms * 2;

    so->retrying = true;
    so->retry_since_ns = get_clock();
    so->retry_hung = vmstate_change_is_late() ||
                     bdrv_has_request_since(so->retry_since_ns -
                                            SWITCHOVER_HANG_MS * SCALE_MS);
    so->retry_looked = false;
    so->retry_delay_ms = MIN(MAX(delay_ms, SWITCHOVER_RETRY_MIN_MS),
                             SWITCHOVER_RETRY_MAX_MS);
    trace_switchover_schedule_retry(so->retry_delay_ms);
}

/*
 * The disks did not come to rest in time: back out, tell about it, and
 * decide about the migration.  Returns whether it is to be retried.
 */
static bool switchover_timed_out(SwitchoverState *so, bool final, Error **errp)
{
    DrainTimeoutAction action = so->ms->parameters.drain_timeout_action;
    g_autoptr(InflightRequestList) requests = NULL;
    g_autoptr(strList) devices = NULL;
    uint64_t elapsed_ms;
    uint32_t omitted;

    if (final || switchover_interrupted(so)) {
        action = DRAIN_TIMEOUT_ACTION_FAIL;
    }

    devices = vmstate_change_stop_awaited();

    /* What is no request is known to a drained section only */
    switchover_drained_begin(so);
    requests = bdrv_inflight_requests(SWITCHOVER_REQUESTS_MAX, &omitted);
    switchover_drained_end(so);
    if (!so->devices_stopped) {
        switchover_back_out(so);
    }
    elapsed_ms = (get_clock() - so->stopped_ns) / SCALE_MS;

    WITH_QEMU_LOCK_GUARD(&so->lock) {
        so->drain_timeouts++;
    }
    trace_switchover_timed_out(so->attempts, elapsed_ms,
                               DrainTimeoutAction_str(action));
    qapi_event_send_migration_drain_timeout(so->attempts, elapsed_ms, action,
                                            requests, omitted,
                                            devices);
    if (so->devices_stopped) {
        /* This may take as long as the disk is stuck */
        switchover_back_out(so);
    }

    if (action == DRAIN_TIMEOUT_ACTION_RETRY) {
        switchover_schedule_retry(so);
        return true;
    }
    switchover_error_timeout(so, errp, requests, omitted, devices);
    return false;
}

/* Back out because of @ret.  Sets @errp unless there will be a retry. */
static void switchover_end_attempt(SwitchoverState *so, int ret, bool final,
                                   Error **errp)
{
    ERRP_GUARD();

    switch (ret) {
    case -ETIMEDOUT:
        if (switchover_timed_out(so, final, errp)) {
            return;
        }
        break;
    case -ECANCELED:
        switchover_back_out(so);
        if (!qemu_file_get_error_obj(so->ms->to_dst_file, errp) || !*errp) {
            error_setg(errp, "Switchover is interrupted");
        }
        break;
    default:
        switchover_back_out(so);
        error_setg_errno(errp, -ret, "Flushing the disks failed");
        break;
    }
    if (qatomic_read(&so->ms->state) != MIGRATION_STATUS_CANCELLING) {
        /* Keeps an earlier error, which is the reason of an interruption */
        migrate_set_error(so->ms, *errp);
        migrate_set_state(&so->ms->state, so->ms->state,
                          MIGRATION_STATUS_FAILED);
    }
}

static int64_t switchover_deadline(SwitchoverState *so)
{
    return get_clock() + so->ms->parameters.drain_timeout * SCALE_MS;
}

static int switchover_drain(SwitchoverState *so, int64_t deadline_ns)
{
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_DRAIN);
    return switchover_settle(so, deadline_ns);
}

/* With drain-timeout.  If it succeeds, a drained section is in place. */
static int switchover_stop_bounded(SwitchoverState *so)
{
    int64_t deadline_ns = switchover_deadline(so);
    int ret;

    ret = switchover_drain(so, deadline_ns);
    if (ret) {
        return ret;
    }

    switchover_stop_devices(so);
    if (!bdrv_timed_drain_held_back()) {
        return 0;
    }

    /*
     * A device submitted requests while it was stopped.  They are in no
     * virtqueue and in no device state, so they have to complete here.
     */
    trace_switchover_held_back();
    switchover_drained_end(so);
    return switchover_drain(so, deadline_ns);
}

/* Without: what vm_stop() does */
static int switchover_stop_unbounded(SwitchoverState *so)
{
    int ret;

    switchover_stop_devices(so);
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_DRAIN);
    bdrv_drain_all();
    ret = bdrv_flush_all();

    /* Data may be lost although a flush now succeeds: keep such a disk */
    return bdrv_timed_flush_take_late_error() ?: ret;
}

/*
 * The window was a hit, but the BQL was dropped since.  The guest may have got
 * its requests back, or a device that cannot be held has begun one: look for
 * another moment.
 */
static bool switchover_came_too_late(SwitchoverState *so)
{
    if (!so->window.hit || (so->holding && !bdrv_timed_drain_in_flight())) {
        return false;
    }
    switchover_io_hold_end(so);
    trace_switchover_came_too_late();
    so->window.hit = false;
    WITH_QEMU_LOCK_GUARD(&so->lock) {
        so->quiesce.fruitless++;
    }
    so->retrying = true;
    so->retry_since_ns = get_clock();
    so->retry_delay_ms = 0;
    return true;
}

/*
 * From now on, what the guest has asked for and no device has fetched belongs
 * to the destination, unless the switchover backs out.
 */
static void switchover_io_hold_stopped(SwitchoverState *so)
{
    if (switchover_holds(so)) {
        switchover_io_hold_begin(so, 0);
    }
}

static void switchover_count_attempt(SwitchoverState *so)
{
    so->retrying = false;
    so->window.hit = false;
    WITH_QEMU_LOCK_GUARD(&so->lock) {
        so->quiesce.fruitless = 0;
        so->attempts++;
    }
    trace_switchover_attempt(so->attempts, so->ms->parameters.drain_timeout);
}

static void switchover_count_in_flight(SwitchoverState *so)
{
    uint32_t in_flight;

    bdrv_inflight_requests(0, &in_flight);
    WITH_QEMU_LOCK_GUARD(&so->lock) {
        so->in_flight_at_stop = in_flight;
    }
}

int switchover_stop(MigrationState *s, Error **errp)
{
    SwitchoverState *so = &switchover;
    bool bounded = switchover_is_bounded(so);
    int ret;

    assert(bql_locked());

    if (switchover_came_too_late(so)) {
        return -EAGAIN;
    }

    /* Still open if a client stopped the guest in the meantime */
    switchover_window_close(so, false);
    switchover_count_attempt(so);
    so->attempting = true;
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_STOP);
    switchover_pause_vcpus(so);
    switchover_io_hold_stopped(so);
    switchover_count_in_flight(so);

    ret = bounded ? switchover_stop_bounded(so) : switchover_stop_unbounded(so);
    trace_vmstate_downtime_checkpoint("src-vm-stopped");
    trace_migration_completion_vm_stop(ret);
    switchover_background_end(so);

    if (ret && bounded) {
        switchover_end_attempt(so, ret, false, errp);
        return ret;
    }
    if (ret) {
        error_setg_errno(errp, -ret, "Failed to stop the VM");
        return ret;
    }

    if (migrate_pause_before_switchover()) {
        /* It is now for management to complete block jobs */
        switchover_drained_end(so);
    }
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_SAVE);
    return 0;
}

bool switchover_rest(MigrationState *s, Error **errp)
{
    SwitchoverState *so = &switchover;
    int ret;

    assert(bql_locked());

    if (so->drained || !switchover_is_bounded(so)) {
        return true;
    }

    so->stopped_ns = get_clock();
    ret = switchover_drain(so, switchover_deadline(so));
    if (ret) {
        switchover_end_attempt(so, ret, true, errp);
        return false;
    }
    switchover_log_enter(&so->log, SWITCHOVER_PHASE_SAVE);
    return true;
}

void switchover_release_disks(MigrationState *s)
{
    switchover_drained_end(&switchover);
}

/* The end */

void switchover_enter_hold(MigrationState *s)
{
    switchover_log_enter(&switchover.log, SWITCHOVER_PHASE_HOLD);
}

void switchover_handover(MigrationState *s)
{
    switchover_log_enter(&switchover.log, SWITCHOVER_PHASE_HANDOVER);
}

void switchover_shutdown(void)
{
    switchover.shut_down = true;
    switchover_io_hold_shutdown(&switchover);
    switchover_restore_limits(&switchover);
}

void switchover_finish(MigrationState *s)
{
    SwitchoverState *so = &switchover;

    assert(bql_locked());

    switchover_drained_end(so);
    switchover_window_close(so, false);
    switchover_io_hold_end(so);
    so->attempting = false;

    if (so->deferring && so->deferred_stop != RUN_STATE__MAX &&
        runstate_is_live(s->vm_old_state)) {
        /* If the guest comes back, it comes back stopped */
        s->vm_old_state = so->deferred_stop;
    }
    so->deferring = false;
    so->deferred_stop = RUN_STATE__MAX;
    so->retrying = false;
}
