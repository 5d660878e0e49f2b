/*
 * How long iterations of a migration take, and for how long they may
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/iterations.h"
#include "migration/multifd-wait.h"
#include "migration/outgoing-channel.h"
#include "migration/savevm.h"
#include "monitor/monitor.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "trace.h"

/* 2^39 us are six days */
#define BUCKETS 40

static struct {
    /* Migration thread */
    bool running;
    int64_t deadline_ns;        /* to wait for the channel */
    int64_t late_ns;            /* because of iteration-limit */

    /* Under the lock, which is taken last and held for a few instructions */
    QemuMutex lock;
    bool valid;
    int64_t begin_ns;           /* of the one that runs; 0: none */
    int64_t blocked_since_ns;   /* 0: not */
    int64_t blocked_ns;
    uint64_t stalls;
    uint64_t count;
    uint64_t sum_us;
    uint64_t min_us;
    uint64_t max_us;
    uint64_t bucket[BUCKETS];
} it;

/* Atomic, migration thread; only of one that is running */
bool iterations_over;

static void __attribute__((constructor)) iterations_init(void)
{
    qemu_mutex_init(&it.lock);
}

void iterations_reset(void)
{
    multifd_wait_reset();
    QEMU_LOCK_GUARD(&it.lock);
    it.valid = true;
    it.begin_ns = it.blocked_since_ns = it.blocked_ns = 0;
    it.stalls = it.count = it.sum_us = it.min_us = it.max_us = 0;
    memset(it.bucket, 0, sizeof(it.bucket));
}

/* Powers of two: [0, 2), [2, 4), [4, 8), ... */
static unsigned bucket_of(uint64_t us)
{
    return MIN(63 - clz64(us | 1), BUCKETS - 1);
}

static void count(uint64_t us)
{
    it.min_us = it.count ? MIN(it.min_us, us) : us;
    it.max_us = MAX(it.max_us, us);
    it.sum_us += us;
    it.count++;
    it.bucket[bucket_of(us)]++;
}

/* Source */

bool iterations_may_begin(MigrationState *s)
{
    int64_t until_ns = get_clock() + MIGRATION_PATIENCE_NS;

    return migration_outgoing_settle(s->to_dst_file, until_ns) &&
           multifd_wait_settle(until_ns);
}

int iterations_run(MigrationState *s, bool postcopy)
{
    uint64_t limit_ms = s->parameters.iteration_limit;
    int64_t begin_ns = get_clock(), end_ns;
    bool over;
    int ret;

    it.late_ns = limit_ms ? begin_ns + limit_ms * SCALE_MS : INT64_MAX;
    it.deadline_ns = MIN(it.late_ns, begin_ns + MIGRATION_PATIENCE_NS);
    it.running = true;
    WITH_QEMU_LOCK_GUARD(&it.lock) {
        it.begin_ns = begin_ns;
    }

    ret = qemu_savevm_state_iterate(s->to_dst_file, postcopy);

    it.running = false;
    over = iterations_is_over();
    qatomic_set(&iterations_over, false);
    end_ns = get_clock();
    WITH_QEMU_LOCK_GUARD(&it.lock) {
        it.begin_ns = 0;
        count((end_ns - begin_ns) / SCALE_US);
    }
    trace_migration_iteration((end_ns - begin_ns) / SCALE_US, over, ret);
    return ret;
}

bool iterations_is_late(void)
{
    if (it.running && it.late_ns != INT64_MAX && get_clock() >= it.late_ns) {
        iterations_end_early();
    }
    return iterations_is_over();
}

int64_t iterations_deadline(void)
{
    return it.running ? it.deadline_ns : INT64_MAX;
}

void iterations_end_early(void)
{
    if (it.running) {
        qatomic_set(&iterations_over, true);
    }
}

/* Destination */

int64_t iterations_load_begin(void)
{
    int64_t begin_ns = get_clock();

    QEMU_LOCK_GUARD(&it.lock);
    it.begin_ns = begin_ns;
    return begin_ns;
}

void iterations_load_end(int64_t begin_ns)
{
    int64_t end_ns = get_clock();

    QEMU_LOCK_GUARD(&it.lock);
    it.begin_ns = 0;
    count((end_ns - begin_ns) / SCALE_US);
}

/* Both */

void iterations_blocked_begin(void)
{
    int64_t now_ns = get_clock();

    QEMU_LOCK_GUARD(&it.lock);
    it.blocked_since_ns = now_ns;
}

void iterations_blocked_end(void)
{
    int64_t now_ns = get_clock();

    QEMU_LOCK_GUARD(&it.lock);
    it.blocked_ns += now_ns - it.blocked_since_ns;
    it.blocked_since_ns = 0;
}

void iterations_count_stall(void)
{
    QEMU_LOCK_GUARD(&it.lock);
    it.stalls++;
}

/* Without gaps, since a client may want to draw it */
static MigrationIterationBucketList *histogram(void)
{
    MigrationIterationBucketList *list = NULL, **tail = &list;
    unsigned first = bucket_of(it.min_us), last = 0, i;

    for (i = 0; i < BUCKETS; i++) {
        last = it.bucket[i] ? i : last;
    }
    for (i = first; it.count && i <= last; i++) {
        MigrationIterationBucket *bucket = g_new0(MigrationIterationBucket, 1);

        bucket->from_us = i ? UINT64_C(1) << i : 0;
        bucket->count = it.bucket[i];
        QAPI_LIST_APPEND(tail, bucket);
    }
    return list;
}

MigrationIterations *iterations_info(void)
{
    int64_t now_ns = get_clock();
    MigrationIterations *info;

    QEMU_LOCK_GUARD(&it.lock);
    if (!it.valid) {
        return NULL;
    }
    info = g_new0(MigrationIterations, 1);
    info->count = it.count;
    info->min_us = it.min_us;
    info->avg_us = it.count ? it.sum_us / it.count : 0;
    info->max_us = it.max_us;
    if (it.begin_ns) {
        /* One that takes long is to be seen while it does */
        info->max_us = MAX(info->max_us, (now_ns - it.begin_ns) / SCALE_US);
    }
    info->stalls = it.stalls;
    info->blocked_ms = (it.blocked_ns + (it.blocked_since_ns ?
                        now_ns - it.blocked_since_ns : 0)) / SCALE_MS;
    info->histogram = histogram();
    return info;
}

void iterations_hmp_info(Monitor *mon, const MigrationIterations *info)
{
    const MigrationIterationBucketList *item;

    if (!info || !info->count) {
        return;
    }
    monitor_printf(mon, "iterations: %" PRIu64 ", min %" PRIu64 " us, avg %"
                   PRIu64 " us, max %" PRIu64 " us\n",
                   info->count, info->min_us, info->avg_us, info->max_us);
    monitor_printf(mon, "channel blocked: %" PRIu64 " ms (%" PRIu64
                   " stalls)\n", info->blocked_ms, info->stalls);
    for (item = info->histogram; item; item = item->next) {
        monitor_printf(mon, "iterations from %" PRIu64 " us: %" PRIu64 "\n",
                       item->value->from_us, item->value->count);
    }
}
