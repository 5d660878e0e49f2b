/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: how long the monitor takes to answer, at worst
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/monitor-probe.h"

#define PROBE_PERIOD_MS 20

struct SwProbe {
    SwMonitor *mon;
    GThread *asker;

    /* Under the lock */
    GMutex lock;
    GCond changed;
    bool stop;
    int64_t asked_us;       /* 0: no question is open */
    int64_t marked_us;
    int64_t worst_us;
};

static void note_asked(SwProbe *probe)
{
    g_mutex_lock(&probe->lock);
    probe->asked_us = sw_now_us();
    g_mutex_unlock(&probe->lock);
}

/* Called with the lock held: how long the open question was open since mark */
static int64_t open_for_us(SwProbe *probe)
{
    if (!probe->asked_us) {
        return 0;
    }
    return sw_now_us() - MAX(probe->asked_us, probe->marked_us);
}

/* Returns false when the asking is to end */
static bool note_answered_and_rest(SwProbe *probe)
{
    int64_t next_us;
    bool stop;

    g_mutex_lock(&probe->lock);
    probe->worst_us = MAX(probe->worst_us, open_for_us(probe));
    next_us = probe->asked_us + PROBE_PERIOD_MS * 1000;
    probe->asked_us = 0;
    while (!probe->stop &&
           g_cond_wait_until(&probe->changed, &probe->lock, next_us)) {
        /* woken for another reason than the time */
    }
    stop = probe->stop;
    g_mutex_unlock(&probe->lock);
    return !stop;
}

static void *ask(void *opaque)
{
    SwProbe *probe = opaque;
    QDict *rsp;

    do {
        note_asked(probe);
        rsp = sw_qmp_try(probe->mon, "{ 'execute': 'query-migrate' }");
        qobject_unref(rsp);
    } while (note_answered_and_rest(probe) && rsp);
    return NULL;
}

SwProbe *sw_probe_new(SwMonitor *mon)
{
    SwProbe *probe = g_new0(SwProbe, 1);

    probe->mon = mon;
    g_mutex_init(&probe->lock);
    g_cond_init(&probe->changed);
    probe->asker = g_thread_new("probe", ask, probe);
    return probe;
}

void sw_probe_free(SwProbe *probe)
{
    g_mutex_lock(&probe->lock);
    probe->stop = true;
    g_cond_broadcast(&probe->changed);
    g_mutex_unlock(&probe->lock);
    g_thread_join(probe->asker);
    sw_monitor_free(probe->mon);
    g_mutex_clear(&probe->lock);
    g_cond_clear(&probe->changed);
    g_free(probe);
}

void sw_probe_mark(SwProbe *probe)
{
    g_mutex_lock(&probe->lock);
    probe->marked_us = sw_now_us();
    probe->worst_us = 0;
    g_mutex_unlock(&probe->lock);
}

int64_t sw_probe_worst_ms(SwProbe *probe)
{
    int64_t worst_us;

    g_mutex_lock(&probe->lock);
    worst_us = MAX(probe->worst_us, open_for_us(probe));
    g_mutex_unlock(&probe->lock);
    return worst_us / 1000;
}

void sw_probe_expect_answers(SwProbe *probe)
{
    int64_t worst_ms = sw_probe_worst_ms(probe);

    g_test_message("monitor silent for %d ms at worst", (int)worst_ms);
    SW_CHECK_SOON(worst_ms, SW_ANSWER_LIMIT_MS, "an answer of the monitor");
}
