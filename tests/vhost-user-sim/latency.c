/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: how long messages take
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "latency.h"

bool sim_latency_mode_parse(const char *name, SimLatencyMode *mode,
                            Error **errp)
{
    if (g_str_equal(name, "serial")) {
        *mode = SIM_LATENCY_SERIAL;
    } else if (g_str_equal(name, "wakeup")) {
        *mode = SIM_LATENCY_WAKEUP;
    } else {
        error_setg(errp, "latency mode '%s': serial or wakeup", name);
        return false;
    }
    return true;
}

static bool parse_one(SimLatency *latency, const char *text, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 2);
    unsigned kind;
    uint64_t us;

    if (!parts[0] || !parts[1] || parse_uint_full(parts[1], 10, &us) ||
        us > SIM_LATENCY_MAX_US) {
        error_setg(errp, "latency '%s': KIND:MICROSECONDS, from 0 to %d",
                   text, SIM_LATENCY_MAX_US);
        return false;
    }
    if (!sim_kind_parse(parts[0], &kind, errp)) {
        return false;
    }
    latency->us[kind] = us;
    return true;
}

bool sim_latency_parse(SimLatency *latency, const char *text, Error **errp)
{
    g_auto(GStrv) entries = g_strsplit(text, ",", -1);
    SimLatency result = *latency;
    int i;

    for (i = 0; entries[i]; i++) {
        if (!parse_one(&result, entries[i], errp)) {
            return false;
        }
    }
    *latency = result;
    return true;
}

int64_t sim_latency_us(const SimLatency *latency, unsigned kind)
{
    return latency->us[kind] ?: latency->us[SIM_KIND_ANY];
}
