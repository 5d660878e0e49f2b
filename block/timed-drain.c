/*
 * Timed drain: bring all block nodes to rest, but not at any price
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See include/block/timed-drain.h for the protocol.
 *
 * Drained sections are the block layer's own, begun without polling.  What is
 * added here is that somebody else than AIO_WAIT_WHILE() can wait for them.
 * Whoever lets a request or a job come to rest calls aio_wait_kick(), which
 * schedules a BH in the main AioContext as soon as there is a waiter; that BH
 * notifies ours, and so wakes up the thread which sleeps without the BQL.
 *
 * A flush is one coroutine for each node, in the node's AioContext.  All of its
 * bookkeeping is done in BHs in the main AioContext, under the BQL.
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/block_int.h"
#include "block/timed-drain.h"
#include "hw/qdev-core.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/block-backend.h"
#include "system/replay.h"
#include "trace.h"

static void timed_drain_notify(Notifier *notifier, void *data)
{
    BdrvTimedDrainWaiter *waiter =
        container_of(notifier, BdrvTimedDrainWaiter, notifier);

    GLOBAL_STATE_CODE();
    waiter->wake(waiter->opaque);
}

void bdrv_timed_drain_waiter_add(BdrvTimedDrainWaiter *waiter,
                                 void (*wake)(void *opaque), void *opaque)
{
    GLOBAL_STATE_CODE();

    waiter->notifier.notify = timed_drain_notify;
    waiter->wake = wake;
    waiter->opaque = opaque;
    aio_wait_add_notifier(&waiter->notifier);
}

void bdrv_timed_drain_waiter_del(BdrvTimedDrainWaiter *waiter)
{
    GLOBAL_STATE_CODE();
    aio_wait_remove_notifier(&waiter->notifier);
}

/* Protected by the BQL: whoever owns the section */
static void (*timed_drain_owner_yield)(void *opaque);
static void *timed_drain_owner;
static bool timed_drain_in_force;   /* atomic */

void bdrv_timed_drain_begin(void (*yield)(void *opaque), void *opaque)
{
    GLOBAL_STATE_CODE();
    trace_bdrv_timed_drain_begin();
    timed_drain_owner_yield = yield;
    timed_drain_owner = opaque;
    qatomic_set(&timed_drain_in_force, true);
    bdrv_drain_all_begin_nopoll();
}

void bdrv_timed_drain_end(void)
{
    GLOBAL_STATE_CODE();
    trace_bdrv_timed_drain_end();
    timed_drain_owner_yield = NULL;
    timed_drain_owner = NULL;
    bdrv_drain_all_end();
    qatomic_set_mb(&timed_drain_in_force, false);
}

bool bdrv_timed_drain_in_force(void)
{
    /* Whoever found a node drained has looked at that before */
    smp_rmb();
    return qatomic_read(&timed_drain_in_force);
}

void bdrv_timed_drain_yield(void)
{
    GLOBAL_STATE_CODE();

    if (timed_drain_owner_yield) {
        trace_bdrv_timed_drain_yield();
        timed_drain_owner_yield(timed_drain_owner);
    }
}

bool bdrv_timed_drain_busy(void)
{
    BlockDriverState *bs = NULL;
    bool busy = false;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (replay_events_enabled()) {
        return false;
    }

    /* Every node is asked: polling a block job is what makes it pause */
    while ((bs = bdrv_next_all_states(bs))) {
        busy |= bdrv_drain_poll(bs, NULL, true);
    }
    return busy;
}

bool bdrv_timed_drain_guest_busy(void)
{
    BlockBackend *blk = NULL;

    GLOBAL_STATE_CODE();

    while ((blk = blk_all_next(blk))) {
        if (blk_get_attached_dev(blk) && blk_is_busy(blk)) {
            return true;
        }
    }
    return false;
}

bool bdrv_timed_drain_in_flight(void)
{
    BlockDriverState *bs = NULL;
    BlockBackend *blk = NULL;

    GLOBAL_STATE_CODE();

    while ((blk = blk_all_next(blk))) {
        if (blk_has_in_flight(blk)) {
            return true;
        }
    }
    while ((bs = bdrv_next_all_states(bs))) {
        if (qatomic_read(&bs->in_flight)) {
            return true;
        }
    }
    return false;
}

bool bdrv_timed_drain_held_back(void)
{
    BlockBackend *blk = NULL;

    GLOBAL_STATE_CODE();

    while ((blk = blk_all_next(blk))) {
        if (!blk_is_exported(blk) && blk_has_queued_requests(blk)) {
            return true;
        }
    }
    return false;
}

/* Requests in flight */

static const InflightRequestKind inflight_kind[] = {
    [BDRV_TRACKED_READ] = INFLIGHT_REQUEST_KIND_READ,
    [BDRV_TRACKED_WRITE] = INFLIGHT_REQUEST_KIND_WRITE,
    [BDRV_TRACKED_DISCARD] = INFLIGHT_REQUEST_KIND_DISCARD,
    [BDRV_TRACKED_TRUNCATE] = INFLIGHT_REQUEST_KIND_TRUNCATE,
    [BDRV_TRACKED_FLUSH] = INFLIGHT_REQUEST_KIND_FLUSH,
    [BDRV_TRACKED_IOCTL] = INFLIGHT_REQUEST_KIND_IOCTL,
};

/* One row of the list; @kind says which of the fields mean anything */
typedef struct InflightRow {
    BlockDriverState *bs;
    InflightRequestKind kind;
    int64_t offset;
    int64_t bytes;
    int64_t start_ns;
} InflightRow;

static bool inflight_kind_has_range(InflightRequestKind kind)
{
    return kind != INFLIGHT_REQUEST_KIND_FLUSH &&
           kind != INFLIGHT_REQUEST_KIND_IOCTL &&
           kind != INFLIGHT_REQUEST_KIND_OTHER;
}

static void inflight_collect_request(const BdrvTrackedRequest *req,
                                     GArray *rows)
{
    InflightRow row = {
        .bs = req->bs,
        .kind = inflight_kind[req->type],
        .offset = req->offset,
        .bytes = req->bytes,
        .start_ns = req->start_ns,
    };

    g_array_append_val(rows, row);
}

/* Append what @bs is working on to @rows */
static void inflight_collect_node(BlockDriverState *bs, GArray *rows)
{
    BdrvTrackedRequest *req;

    QEMU_LOCK_GUARD(&bs->reqs_lock);
    QLIST_FOREACH(req, &bs->tracked_requests, list) {
        inflight_collect_request(req, rows);
    }
    QLIST_FOREACH(req, &bs->tracked_others, list) {
        inflight_collect_request(req, rows);
    }
}

/* What a child works on is alike but for when it began */
static guint inflight_hash(gconstpointer opaque)
{
    const InflightRow *row = opaque;

    return g_direct_hash(row->bs) ^ g_int64_hash(&row->offset) ^
           g_int64_hash(&row->bytes) * 31 ^ row->kind;
}

static gboolean inflight_equal(gconstpointer a, gconstpointer b)
{
    const InflightRow *row_a = a;
    const InflightRow *row_b = b;

    return row_a->bs == row_b->bs && row_a->kind == row_b->kind &&
           row_a->offset == row_b->offset && row_a->bytes == row_b->bytes;
}

/* Is @row the request which a child of its node now works on? */
static bool GRAPH_RDLOCK inflight_is_passed_on(const InflightRow *row,
                                               GHashTable *tracked)
{
    InflightRow below = *row;
    BdrvChild *child;

    QLIST_FOREACH(child, &row->bs->children, next) {
        below.bs = child->bs;
        if (g_hash_table_contains(tracked, &below)) {
            return true;
        }
    }
    return false;
}

static bool GRAPH_RDLOCK inflight_tracked_below(BlockDriverState *bs)
{
    BdrvChild *child;

    WITH_QEMU_LOCK_GUARD(&bs->reqs_lock) {
        if (!QLIST_EMPTY(&bs->tracked_requests) ||
            !QLIST_EMPTY(&bs->tracked_others)) {
            return true;
        }
    }
    QLIST_FOREACH(child, &bs->children, next) {
        if (inflight_tracked_below(child->bs)) {
            return true;
        }
    }
    return false;
}

static gint inflight_compare_age(gconstpointer a, gconstpointer b)
{
    const InflightRow *row_a = a;
    const InflightRow *row_b = b;

    if (row_a->start_ns == row_b->start_ns) {
        return 0;
    }
    return row_a->start_ns < row_b->start_ns ? -1 : 1;
}

static GArray * GRAPH_RDLOCK inflight_collect(void)
{
    g_autoptr(GHashTable) tracked = g_hash_table_new(inflight_hash,
                                                     inflight_equal);
    g_autoptr(GArray) all = g_array_new(false, false, sizeof(InflightRow));
    GArray *rows = g_array_new(false, false, sizeof(InflightRow));
    BlockDriverState *bs = NULL;

    while ((bs = bdrv_next_all_states(bs))) {
        inflight_collect_node(bs, all);

        if (qatomic_read(&bs->quiesce_counter) &&
            !inflight_tracked_below(bs) && bdrv_drain_poll(bs, NULL, true)) {
            InflightRow row = {
                .bs = bs,
                .kind = INFLIGHT_REQUEST_KIND_OTHER,
                .start_ns = INT64_MAX,
            };
            g_array_append_val(all, row);
        }
    }

    for (guint i = 0; i < all->len; i++) {
        InflightRow *row = &g_array_index(all, InflightRow, i);

        if (row->kind != INFLIGHT_REQUEST_KIND_OTHER) {
            g_hash_table_add(tracked, row);
        }
    }
    for (guint i = 0; i < all->len; i++) {
        InflightRow *row = &g_array_index(all, InflightRow, i);

        if (!inflight_is_passed_on(row, tracked)) {
            g_array_append_val(rows, *row);
        }
    }
    g_array_sort(rows, inflight_compare_age);
    return rows;
}

static bool GRAPH_RDLOCK inflight_is_below(BlockDriverState *bs,
                                           BlockDriverState *root)
{
    BdrvChild *child;

    if (bs == root) {
        return true;
    }
    QLIST_FOREACH(child, &root->children, next) {
        if (inflight_is_below(bs, child->bs)) {
            return true;
        }
    }
    return false;
}

/*
 * The ID which the user gave to @dev, or to the device that it is a part of:
 * the ID of a virtio-blk-pci is what is known, not its virtio-blk-device.
 */
static char *inflight_device_id(DeviceState *dev)
{
    Object *obj;

    for (obj = OBJECT(dev); obj; obj = obj->parent) {
        dev = (DeviceState *)object_dynamic_cast(obj, TYPE_DEVICE);
        if (dev && dev->id) {
            return g_strdup(dev->id);
        }
    }
    return NULL;
}

char *bdrv_timed_drain_device_name(DeviceState *dev)
{
    return inflight_device_id(dev) ?: object_get_canonical_path(OBJECT(dev));
}

/* Name of the guest device which uses @bs, NULL if there is none */
static char * GRAPH_RDLOCK inflight_device(BlockDriverState *bs)
{
    BlockBackend *blk = NULL;

    while ((blk = blk_all_next(blk))) {
        DeviceState *dev = blk_get_attached_dev(blk);

        if (dev && blk_bs(blk) && inflight_is_below(bs, blk_bs(blk))) {
            return bdrv_timed_drain_device_name(dev);
        }
    }
    return NULL;
}

static InflightRequest * GRAPH_RDLOCK
inflight_describe(const InflightRow *row, int64_t now_ns)
{
    InflightRequest *req = g_new0(InflightRequest, 1);

    req->node = g_strdup(bdrv_get_node_name(row->bs));
    req->device = inflight_device(row->bs);
    req->kind = row->kind;
    if (inflight_kind_has_range(row->kind)) {
        req->has_offset = true;
        req->offset = row->offset;
        req->has_bytes = true;
        req->bytes = row->bytes;
    }
    if (row->kind != INFLIGHT_REQUEST_KIND_OTHER) {
        req->has_age_ms = true;
        req->age_ms = MAX(now_ns - row->start_ns, 0) / SCALE_MS;
    }
    return req;
}

InflightRequestList *bdrv_inflight_requests(unsigned max, uint32_t *omitted)
{
    g_autoptr(GArray) rows = NULL;
    InflightRequestList *list = NULL;
    InflightRequestList **tail = &list;
    int64_t now_ns = get_clock();

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    rows = inflight_collect();
    for (guint i = 0; i < MIN(rows->len, max); i++) {
        QAPI_LIST_APPEND(tail,
                         inflight_describe(&g_array_index(rows, InflightRow, i),
                                           now_ns));
    }
    *omitted = rows->len - MIN(rows->len, max);
    return list;
}

bool bdrv_has_request_since(int64_t time_ns)
{
    g_autoptr(GArray) rows = g_array_new(false, false, sizeof(InflightRow));
    BlockDriverState *bs = NULL;

    GLOBAL_STATE_CODE();

    while ((bs = bdrv_next_all_states(bs))) {
        inflight_collect_node(bs, rows);
    }
    for (guint i = 0; i < rows->len; i++) {
        if (g_array_index(rows, InflightRow, i).start_ns <= time_ns) {
            return true;
        }
    }
    return false;
}

/* Flush */

struct BdrvTimedFlush {
    /* All fields are protected by the BQL */
    unsigned pending;       /* nodes that have not been flushed yet */
    int ret;                /* the first error */
    bool released;          /* nobody waits any more */
};

typedef struct TimedFlushNode {
    BdrvTimedFlush *flush;
    BlockDriverState *bs;
    int ret;                /* written by the coroutine, then read by the BH */
} TimedFlushNode;

/* Protected by the BQL: what released flushes left behind */
static int timed_flush_late_error;
static unsigned timed_flush_left;       /* nodes that are still being flushed */

static void timed_flush_node_done_bh(void *opaque)
{
    TimedFlushNode *node = opaque;
    BdrvTimedFlush *flush = node->flush;

    GLOBAL_STATE_CODE();

    trace_bdrv_timed_flush_node_done(bdrv_get_node_name(node->bs), node->ret);

    if (node->ret < 0) {
        error_report("Flushing block node '%s' for the switchover failed%s: %s",
                     bdrv_get_node_name(node->bs),
                     flush->released ? " after its time was over" : "",
                     strerror(-node->ret));
        if (flush->released) {
            timed_flush_late_error = node->ret;
        } else if (!flush->ret) {
            flush->ret = node->ret;
        }
    }
    timed_flush_left -= flush->released;
    bdrv_dec_in_flight(node->bs);
    bdrv_unref(node->bs);
    g_free(node);

    if (--flush->pending) {
        return;
    }
    if (flush->released) {
        g_free(flush);
    }
    aio_wait_kick();
}

static void coroutine_fn timed_flush_node_co_entry(void *opaque)
{
    TimedFlushNode *node = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        node->ret = bdrv_co_flush(node->bs);
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), timed_flush_node_done_bh,
                            node);
}

BdrvTimedFlush *bdrv_timed_flush_start(void)
{
    BdrvTimedFlush *flush = g_new0(BdrvTimedFlush, 1);
    BlockDriverState *bs;
    BdrvNextIterator it;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    /* Like bdrv_flush_all(), do not disturb the order of a replay */
    if (replay_events_enabled()) {
        return flush;
    }

    for (bs = bdrv_first(&it); bs; bs = bdrv_next(&it)) {
        TimedFlushNode *node = g_new0(TimedFlushNode, 1);

        node->flush = flush;
        node->bs = bs;
        bdrv_ref(bs);
        /* The coroutine may begin later; a drained section waits for it, too */
        bdrv_inc_in_flight(bs);
        flush->pending++;
        aio_co_enter(bdrv_get_aio_context(bs),
                     qemu_coroutine_create(timed_flush_node_co_entry, node));
    }
    trace_bdrv_timed_flush_start(flush->pending);
    return flush;
}

bool bdrv_timed_flush_done(BdrvTimedFlush *flush, int *ret)
{
    GLOBAL_STATE_CODE();

    if (flush->pending) {
        return false;
    }
    *ret = flush->ret;
    return true;
}

void bdrv_timed_flush_release(BdrvTimedFlush *flush)
{
    GLOBAL_STATE_CODE();

    if (!flush->pending) {
        g_free(flush);
        return;
    }

    trace_bdrv_timed_flush_abandon(flush->pending);
    flush->released = true;
    timed_flush_left += flush->pending;
    if (flush->ret) {
        /* bdrv_timed_flush_done() had no chance to return it */
        timed_flush_late_error = flush->ret;
    }
}

bool bdrv_timed_flush_left_behind(void)
{
    GLOBAL_STATE_CODE();
    return timed_flush_left;
}

int bdrv_timed_flush_take_late_error(void)
{
    int ret = timed_flush_late_error;

    GLOBAL_STATE_CODE();

    timed_flush_late_error = 0;
    return ret;
}

void bdrv_timed_flush_put_late_error(int ret)
{
    GLOBAL_STATE_CODE();
    timed_flush_late_error = ret;
}
