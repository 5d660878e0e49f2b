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

#define DRAIN_TIMEOUT_MAX_MS (3600 * 1000)

void switchover_params_init(SwitchoverParameters *params)
{
    params->has_drain_timeout = true;
    params->has_drain_timeout_action = true;
}

void switchover_params_apply(SwitchoverParameters *dst,
                             const SwitchoverParameters *src)
{
    if (src->has_drain_timeout) {
        dst->has_drain_timeout = true;
        dst->drain_timeout = src->drain_timeout;
    }
    if (src->has_drain_timeout_action) {
        dst->has_drain_timeout_action = true;
        dst->drain_timeout_action = src->drain_timeout_action;
    }
}

bool switchover_params_check(const SwitchoverParameters *params, Error **errp)
{
    if (params->has_drain_timeout &&
        params->drain_timeout > DRAIN_TIMEOUT_MAX_MS) {
        error_setg(errp, "Parameter 'drain-timeout' expects a number of "
                   "milliseconds from 0 (wait for as long as it takes) to %d",
                   DRAIN_TIMEOUT_MAX_MS);
        return false;
    }
    return true;
}

/* The first parameter that is present, NULL if there is none */
static const char *switchover_params_first(const SwitchoverParameters *params)
{
    if (params->has_drain_timeout) {
        return "drain-timeout";
    }
    if (params->has_drain_timeout_action) {
        return "drain-timeout-action";
    }
    return NULL;
}

bool switchover_params_settable(const SwitchoverParameters *params,
                                Error **errp)
{
    const char *name = switchover_params_first(params);

    if (!name) {
        return true;
    }
    if (migration_is_running()) {
        error_setg(errp, "Parameter '%s' cannot be set while a migration is "
                   "running; set it before 'migrate', or cancel the migration "
                   "first", name);
        return false;
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        error_setg(errp, "Parameter '%s' cannot be set on the destination of "
                   "a migration; set it on the source", name);
        return false;
    }
    return true;
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
}

void switchover_hmp_info(Monitor *mon, const SwitchoverInfo *info)
{
    SwitchoverPhaseTimeList *item;

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
    monitor_printf(mon, "switchover quiesce windows: %" PRIu32 " (%" PRIu32
                   " hits), total %" PRIu64 " ms, max %" PRIu64 " ms\n",
                   info->quiesce->windows, info->quiesce->hits,
                   info->quiesce->total_ms, info->quiesce->max_ms);
    for (item = info->phases; item; item = item->next) {
        monitor_printf(mon, "switchover %s: %" PRIu64 " us\n",
                       SwitchoverPhase_str(item->value->phase),
                       item->value->duration_us);
    }
}
