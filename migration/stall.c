/*
 * Waiting for a channel that takes nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/iterations.h"
#include "migration/stall.h"
#include "migration/switchover.h"
#include "qapi/qapi-events-switchover.h"
#include "qemu/timer.h"
#include "trace.h"

static void report(MigrationStall *stall, size_t bytes, bool ended)
{
    int64_t ms = (get_clock() - stall->blocked_since_ns) / SCALE_MS;

    trace_migration_outgoing_stall(ms, bytes, ended);
    qapi_event_send_migration_stalled(switchover_phase(), ms, bytes, ended);
}

/* When it will be a stall, get_clock() */
static int64_t stall_ns(const MigrationStall *stall)
{
    uint64_t ms = migrate_get_current()->parameters.stall_threshold;

    return !ms || stall->stalled ? INT64_MAX
                                 : stall->blocked_since_ns + ms * SCALE_MS;
}

int migration_stall_wait_begin(MigrationStall *stall, int64_t until_ns)
{
    int64_t now_ns = get_clock();

    if (!stall->blocked_since_ns) {
        stall->blocked_since_ns = now_ns;
    }
    until_ns = MIN(until_ns, stall_ns(stall));
    iterations_blocked_begin();
    return until_ns == INT64_MAX ? -1 :
           MIN(INT_MAX, MAX(0, DIV_ROUND_UP(until_ns - now_ns, SCALE_MS)));
}

void migration_stall_wait_end(MigrationStall *stall, size_t bytes)
{
    iterations_blocked_end();
    if (get_clock() >= stall_ns(stall)) {
        stall->stalled = true;
        iterations_count_stall();
        report(stall, bytes, false);
    }
}

void migration_stall_end(MigrationStall *stall, size_t bytes)
{
    if (stall->stalled) {
        stall->stalled = false;
        report(stall, bytes, true);
    }
    stall->blocked_since_ns = 0;
}
