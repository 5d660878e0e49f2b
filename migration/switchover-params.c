/*
 * Migration switchover: parameters
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/misc.h"
#include "migration/switchover-params.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-switchover.h"
#include "system/runstate.h"
#include "system/vmstate-worker.h"

#define DRAIN_TIMEOUT_MAX_MS (3600 * 1000)
#define QUIESCE_WINDOW_MAX_MS 1000
#define QUIESCE_INTERVAL_MAX_MS (3600 * 1000)
#define QUIESCE_QUEUE_DEPTH_MAX 65535
#define POSTCOPY_AFTER_PASSES_MAX 1000
#define POSTCOPY_READY_TIMEOUT_MAX_MS (3600 * 1000)
#define ITERATION_LIMIT_MAX_MS (60 * 1000)
#define STALL_THRESHOLD_MAX_MS (3600 * 1000)

/* Member and MigrationParameter */
#define SWITCHOVER_PARAMETERS(DO)                       \
    DO(drain_timeout, DRAIN_TIMEOUT)                    \
    DO(drain_timeout_action, DRAIN_TIMEOUT_ACTION)      \
    DO(quiesce_window, QUIESCE_WINDOW)                  \
    DO(quiesce_interval, QUIESCE_INTERVAL)              \
    DO(quiesce_queue_depth, QUIESCE_QUEUE_DEPTH)        \
    DO(vmstate_change_threads, VMSTATE_CHANGE_THREADS)  \
    DO(postcopy_after_passes, POSTCOPY_AFTER_PASSES)    \
    DO(postcopy_ready_timeout, POSTCOPY_READY_TIMEOUT)  \
    DO(iteration_limit, ITERATION_LIMIT)                \
    DO(stall_threshold, STALL_THRESHOLD)

void switchover_params_init(SwitchoverParameters *params)
{
#define MARK_AS_PRESENT(member, which)                  \
    params->has_##member = true;

    SWITCHOVER_PARAMETERS(MARK_AS_PRESENT)
#undef MARK_AS_PRESENT
}

void switchover_params_apply(SwitchoverParameters *dst,
                             const SwitchoverParameters *src)
{
#define COPY_IF_PRESENT(member, which)                  \
    if (src->has_##member) {                            \
        dst->has_##member = true;                       \
        dst->member = src->member;                      \
    }

    SWITCHOVER_PARAMETERS(COPY_IF_PRESENT)
#undef COPY_IF_PRESENT
}

static bool switchover_param_in_range(MigrationParameter which, bool present,
                                      uint64_t value, uint64_t min,
                                      uint64_t max, const char *unit,
                                      Error **errp)
{
    if (!present || (value >= min && value <= max)) {
        return true;
    }
    error_setg(errp, "Parameter '%s' expects a number of %s from %" PRIu64
               " to %" PRIu64, MigrationParameter_str(which), unit, min, max);
    return false;
}

bool switchover_params_check(const SwitchoverParameters *params, Error **errp)
{
    return switchover_param_in_range(MIGRATION_PARAMETER_DRAIN_TIMEOUT,
                                     params->has_drain_timeout,
                                     params->drain_timeout,
                                     0, DRAIN_TIMEOUT_MAX_MS,
                                     "milliseconds (0: as long as it takes)",
                                     errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_QUIESCE_WINDOW,
                                     params->has_quiesce_window,
                                     params->quiesce_window,
                                     1, QUIESCE_WINDOW_MAX_MS,
                                     "milliseconds", errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_QUIESCE_INTERVAL,
                                     params->has_quiesce_interval,
                                     params->quiesce_interval,
                                     0, QUIESCE_INTERVAL_MAX_MS,
                                     "milliseconds", errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_QUIESCE_QUEUE_DEPTH,
                                     params->has_quiesce_queue_depth,
                                     params->quiesce_queue_depth,
                                     0, QUIESCE_QUEUE_DEPTH_MAX,
                                     "requests (0: none)", errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_VMSTATE_CHANGE_THREADS,
                                     params->has_vmstate_change_threads,
                                     params->vmstate_change_threads,
                                     0, VMSTATE_WORKERS_MAX,
                                     "threads (0: one for each host CPU)",
                                     errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_POSTCOPY_AFTER_PASSES,
                                     params->has_postcopy_after_passes,
                                     params->postcopy_after_passes,
                                     0, POSTCOPY_AFTER_PASSES_MAX,
                                     "passes (0: not by itself)", errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_POSTCOPY_READY_TIMEOUT,
                                     params->has_postcopy_ready_timeout,
                                     params->postcopy_ready_timeout,
                                     0, POSTCOPY_READY_TIMEOUT_MAX_MS,
                                     "milliseconds (0: as long as it takes)",
                                     errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_ITERATION_LIMIT,
                                     params->has_iteration_limit,
                                     params->iteration_limit,
                                     0, ITERATION_LIMIT_MAX_MS,
                                     "milliseconds (0: no limit)", errp) &&
           switchover_param_in_range(MIGRATION_PARAMETER_STALL_THRESHOLD,
                                     params->has_stall_threshold,
                                     params->stall_threshold,
                                     0, STALL_THRESHOLD_MAX_MS,
                                     "milliseconds (0: not reported)", errp);
}

/* Is a parameter of use to the destination? */
static bool switchover_param_is_for_both(MigrationParameter which)
{
    return which == MIGRATION_PARAMETER_VMSTATE_CHANGE_THREADS;
}

/*
 * The first parameter that is present, and only for the source if @source_only;
 * NULL if there is none
 */
static const char *switchover_params_first(const SwitchoverParameters *params,
                                           bool source_only)
{
#define RETURN_IF_PRESENT(member, which)                \
    if (params->has_##member &&                         \
        !(source_only && switchover_param_is_for_both(  \
                             MIGRATION_PARAMETER_##which))) { \
        return MigrationParameter_str(MIGRATION_PARAMETER_##which); \
    }

    SWITCHOVER_PARAMETERS(RETURN_IF_PRESENT)
#undef RETURN_IF_PRESENT
    return NULL;
}

bool switchover_params_settable(const SwitchoverParameters *params,
                                Error **errp)
{
    const char *name = switchover_params_first(params, false);

    if (!name) {
        return true;
    }
    if (migration_is_running()) {
        error_setg(errp, "Parameter '%s' cannot be set while a migration is "
                   "running; set it before 'migrate', or cancel the migration "
                   "first", name);
        return false;
    }
    name = switchover_params_first(params, true);
    if (name && runstate_check(RUN_STATE_INMIGRATE)) {
        error_setg(errp, "Parameter '%s' cannot be set on the destination of "
                   "a migration; set it on the source", name);
        return false;
    }
    return true;
}

static bool switchover_caps_check_inflight(const bool *old_caps,
                                           const bool *new_caps, Error **errp)
{
    const MigrationCapability cap =
        MIGRATION_CAPABILITY_INFLIGHT_FREE_SWITCHOVER;

    if (!old_caps[cap] && runstate_check(RUN_STATE_INMIGRATE)) {
        error_setg(errp, "Capability '%s' cannot be set on the destination of "
                   "a migration; set it on the source",
                   MigrationCapability_str(cap));
        return false;
    }
    if (new_caps[MIGRATION_CAPABILITY_X_COLO]) {
        error_setg(errp, "Capability '%s' is not compatible with 'x-colo', "
                   "which stops the guest again and again; unset one of them",
                   MigrationCapability_str(cap));
        return false;
    }
    if (new_caps[MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT]) {
        error_setg(errp, "Capability '%s' is not compatible with "
                   "'background-snapshot', which has no switchover; unset one "
                   "of them", MigrationCapability_str(cap));
        return false;
    }
    return true;
}

static bool switchover_caps_check_postcopy_ready(const bool *old_caps,
                                                 const bool *new_caps,
                                                 Error **errp)
{
    static const struct {
        MigrationCapability cap;
        const char *reason;
    } conflicts[] = {
        { MIGRATION_CAPABILITY_RELEASE_RAM,
          "which frees memory that the guest needs if it goes back" },
        { MIGRATION_CAPABILITY_X_IGNORE_SHARED,
          "with which the destination may write to the source's memory" },
        { MIGRATION_CAPABILITY_X_COLO, "which knows no post-copy" },
    };
    const char *name =
        MigrationCapability_str(MIGRATION_CAPABILITY_POSTCOPY_READY);

    if (!new_caps[MIGRATION_CAPABILITY_POSTCOPY_RAM]) {
        /*
         * Without it the capability means nothing.  A client that does not know
         * it may unset the other one.
         */
        if (old_caps[MIGRATION_CAPABILITY_POSTCOPY_READY]) {
            return true;
        }
        error_setg(errp, "Capability '%s' requires 'postcopy-ram'; set it as "
                   "well", name);
        return false;
    }
    for (int i = 0; i < ARRAY_SIZE(conflicts); i++) {
        if (new_caps[conflicts[i].cap]) {
            error_setg(errp, "Capability '%s' is not compatible with '%s', %s; "
                       "unset one of them", name,
                       MigrationCapability_str(conflicts[i].cap),
                       conflicts[i].reason);
            return false;
        }
    }
    return true;
}

bool switchover_caps_check(const bool *old_caps, const bool *new_caps,
                           Error **errp)
{
    return (!new_caps[MIGRATION_CAPABILITY_INFLIGHT_FREE_SWITCHOVER] ||
            switchover_caps_check_inflight(old_caps, new_caps, errp)) &&
           (!new_caps[MIGRATION_CAPABILITY_POSTCOPY_READY] ||
            switchover_caps_check_postcopy_ready(old_caps, new_caps, errp));
}

void switchover_hmp_set_parameter(SwitchoverParameters *params,
                                  MigrationParameter which, Visitor *v,
                                  const char *name, Error **errp)
{
    switch (which) {
    case MIGRATION_PARAMETER_DRAIN_TIMEOUT:
        params->has_drain_timeout = true;
        visit_type_uint64(v, name, &params->drain_timeout, errp);
        break;
    case MIGRATION_PARAMETER_DRAIN_TIMEOUT_ACTION:
        params->has_drain_timeout_action = true;
        visit_type_DrainTimeoutAction(v, name, &params->drain_timeout_action,
                                      errp);
        break;
    case MIGRATION_PARAMETER_QUIESCE_WINDOW:
        params->has_quiesce_window = true;
        visit_type_uint64(v, name, &params->quiesce_window, errp);
        break;
    case MIGRATION_PARAMETER_QUIESCE_INTERVAL:
        params->has_quiesce_interval = true;
        visit_type_uint64(v, name, &params->quiesce_interval, errp);
        break;
    case MIGRATION_PARAMETER_QUIESCE_QUEUE_DEPTH:
        params->has_quiesce_queue_depth = true;
        visit_type_uint32(v, name, &params->quiesce_queue_depth, errp);
        break;
    case MIGRATION_PARAMETER_VMSTATE_CHANGE_THREADS:
        params->has_vmstate_change_threads = true;
        visit_type_uint32(v, name, &params->vmstate_change_threads, errp);
        break;
    case MIGRATION_PARAMETER_POSTCOPY_AFTER_PASSES:
        params->has_postcopy_after_passes = true;
        visit_type_uint32(v, name, &params->postcopy_after_passes, errp);
        break;
    case MIGRATION_PARAMETER_POSTCOPY_READY_TIMEOUT:
        params->has_postcopy_ready_timeout = true;
        visit_type_uint64(v, name, &params->postcopy_ready_timeout, errp);
        break;
    case MIGRATION_PARAMETER_ITERATION_LIMIT:
        params->has_iteration_limit = true;
        visit_type_uint64(v, name, &params->iteration_limit, errp);
        break;
    case MIGRATION_PARAMETER_STALL_THRESHOLD:
        params->has_stall_threshold = true;
        visit_type_uint64(v, name, &params->stall_threshold, errp);
        break;
    default:
        g_assert_not_reached();
    }
}

void switchover_hmp_info_parameters(Monitor *mon,
                                    const SwitchoverParameters *params)
{
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_DRAIN_TIMEOUT),
        params->drain_timeout);
    monitor_printf(mon, "%s: %s\n",
        MigrationParameter_str(MIGRATION_PARAMETER_DRAIN_TIMEOUT_ACTION),
        DrainTimeoutAction_str(params->drain_timeout_action));
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_QUIESCE_WINDOW),
        params->quiesce_window);
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_QUIESCE_INTERVAL),
        params->quiesce_interval);
    monitor_printf(mon, "%s: %" PRIu32 "\n",
        MigrationParameter_str(MIGRATION_PARAMETER_QUIESCE_QUEUE_DEPTH),
        params->quiesce_queue_depth);
    monitor_printf(mon, "%s: %" PRIu32 "\n",
        MigrationParameter_str(MIGRATION_PARAMETER_VMSTATE_CHANGE_THREADS),
        params->vmstate_change_threads);
    monitor_printf(mon, "%s: %" PRIu32 "\n",
        MigrationParameter_str(MIGRATION_PARAMETER_POSTCOPY_AFTER_PASSES),
        params->postcopy_after_passes);
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_POSTCOPY_READY_TIMEOUT),
        params->postcopy_ready_timeout);
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_ITERATION_LIMIT),
        params->iteration_limit);
    monitor_printf(mon, "%s: %" PRIu64 " ms\n",
        MigrationParameter_str(MIGRATION_PARAMETER_STALL_THRESHOLD),
        params->stall_threshold);
}

void switchover_hmp_info(Monitor *mon, const SwitchoverInfo *info)
{
    SwitchoverPhaseTimeList *item;
    SwitchoverWatchedDeviceList *watched;
    SwitchoverDeviceList *device;

    if (!info) {
        return;
    }

    monitor_printf(mon, "switchover phase: %s\n",
                   SwitchoverPhase_str(info->phase));
    monitor_printf(mon, "switchover attempts: %" PRIu32
                   " (%" PRIu32 " drain timeouts)\n",
                   info->attempts, info->drain_timeouts);
    monitor_printf(mon, "switchover requests in flight at stop: %" PRIu32 "\n",
                   info->in_flight_at_stop);
    monitor_printf(mon, "switchover quiesce windows: %" PRIu32 " (hits: %"
                   PRIu32 "), total %" PRIu64 " ms, max %" PRIu64 " ms\n",
                   info->quiesce->windows, info->quiesce->hits,
                   info->quiesce->total_ms, info->quiesce->max_ms);
    monitor_printf(mon, "switchover quiesce windows without a hit: %" PRIu32
                   " of at most %" PRIu32 "\n",
                   info->quiesce->fruitless, info->quiesce->fruitless_max);
    for (watched = info->quiesce->watched; watched; watched = watched->next) {
        monitor_printf(mon, "switchover does not hold %s: %s\n",
                       watched->value->device, watched->value->reason);
    }
    for (device = info->devices; device; device = device->next) {
        monitor_printf(mon, "switchover device %s: %" PRIu32 " messages, %"
                       PRIu64 " us, handler %" PRIu64 " us%s%s%s\n",
                       device->value->device,
                       device->value->messages, device->value->work_us,
                       device->value->handler_us,
                       device->value->late ? ", late" : "",
                       device->value->reason ? ", by itself: " : "",
                       device->value->reason ?: "");
    }
    for (item = info->phases; item; item = item->next) {
        monitor_printf(mon, "switchover %s: %" PRIu64 " us\n",
                       SwitchoverPhase_str(item->value->phase),
                       item->value->duration_us);
    }
}
