/*
 * Migration switchover: how long each phase takes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/switchover-internal.h"
#include "qapi/util.h"
#include "qemu/timer.h"
#include "trace.h"

/* Called with log->lock held */
static void switchover_log_phase_end(SwitchoverLog *log, int64_t now_ns)
{
    /* The approach is no part of an attempt; the last phases have no end */
    if (log->phase == SWITCHOVER_PHASE_APPROACH ||
        log->phase == SWITCHOVER_PHASE_HANDOVER ||
        log->phase == SWITCHOVER_PHASE_RESUME ||
        log->n_phases == SWITCHOVER_PHASES_MAX) {
        return;
    }
    log->phases[log->n_phases].phase = log->phase;
    log->phases[log->n_phases].duration_ns = now_ns - log->start_ns;
    log->n_phases++;
}

void switchover_log_init(SwitchoverLog *log)
{
    qemu_mutex_init(&log->lock);
}

void switchover_log_reset(SwitchoverLog *log)
{
    QEMU_LOCK_GUARD(&log->lock);
    log->valid = true;
    log->phase = SWITCHOVER_PHASE_APPROACH;
    log->start_ns = get_clock();
    log->n_phases = 0;
}

void switchover_log_enter(SwitchoverLog *log, SwitchoverPhase phase)
{
    int64_t now_ns = get_clock();

    QEMU_LOCK_GUARD(&log->lock);

    trace_switchover_phase(SwitchoverPhase_str(log->phase),
                           (now_ns - log->start_ns) / SCALE_US,
                           SwitchoverPhase_str(phase));

    if (log->phase == SWITCHOVER_PHASE_APPROACH) {
        /* A new attempt */
        log->n_phases = 0;
    }
    switchover_log_phase_end(log, now_ns);
    log->phase = phase;
    log->start_ns = now_ns;
}

SwitchoverPhase switchover_log_phase(SwitchoverLog *log)
{
    QEMU_LOCK_GUARD(&log->lock);
    return log->phase;
}

SwitchoverInfo *switchover_log_info(SwitchoverLog *log)
{
    SwitchoverPhaseTimeList **tail;
    SwitchoverInfo *info;

    QEMU_LOCK_GUARD(&log->lock);

    if (!log->valid) {
        return NULL;
    }

    info = g_new0(SwitchoverInfo, 1);
    info->phase = log->phase;
    info->quiesce = g_new0(SwitchoverQuiesce, 1);
    tail = &info->phases;
    for (unsigned i = 0; i < log->n_phases; i++) {
        SwitchoverPhaseTime *time = g_new0(SwitchoverPhaseTime, 1);

        time->phase = log->phases[i].phase;
        time->duration_us = log->phases[i].duration_ns / SCALE_US;
        QAPI_LIST_APPEND(tail, time);
    }
    return info;
}
