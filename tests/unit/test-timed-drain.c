/*
 * Timed drain tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The disks of these tests are a block driver which lets requests get stuck:
 * by kind, and until the test lets them go.  Most tests run twice, with the
 * disk in the main AioContext and with it in an IOThread.
 *
 * Nothing is polled for: a test that expects a wakeup runs the main AioContext
 * until the wake callback ran, and a wakeup that is lost ends in hang_cb().
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/block_int.h"
#include "block/timed-drain.h"
#include "hw/qdev-core.h"
#include "iothread.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qom/object.h"
#include "system/block-backend.h"

/* About hanging, not about speed */
#define HANG_MS 30000

#define RACE_MS 1000
#define RACE_STEPS 16

#define DISK_SIZE (1 * MiB)
#define NO_MAX UINT_MAX

#define READ INFLIGHT_REQUEST_KIND_READ
#define WRITE INFLIGHT_REQUEST_KIND_WRITE
#define DISCARD INFLIGHT_REQUEST_KIND_DISCARD
#define TRUNCATE INFLIGHT_REQUEST_KIND_TRUNCATE
#define FLUSH INFLIGHT_REQUEST_KIND_FLUSH
#define IOCTL INFLIGHT_REQUEST_KIND_IOCTL
#define OTHER INFLIGHT_REQUEST_KIND_OTHER

static GThread *main_thread;

/* Waiting in the main AioContext */

static void hang_cb(void *opaque)
{
    g_printerr("waited in vain for: %s\n", (const char *)opaque);
    g_assert_not_reached();
}

/* Whatever makes @cond true has to make aio_poll() return as well */
#define wait_for(cond) do {                                             \
    QEMUTimer *hang_ = aio_timer_new(qemu_get_aio_context(),            \
                                     QEMU_CLOCK_REALTIME, SCALE_MS,     \
                                     hang_cb, (void *)#cond);           \
    timer_mod(hang_, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + HANG_MS); \
    while (!(cond)) {                                                   \
        aio_poll(qemu_get_aio_context(), true);                         \
    }                                                                   \
    timer_free(hang_);                                                  \
} while (0)

static void run_pending_bhs(void)
{
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* once more */
    }
}

static void wait_for_sem(QemuSemaphore *sem)
{
    g_assert_cmpint(qemu_sem_timedwait(sem, HANG_MS), ==, 0);
}

/* Two requests in one clock tick would have the same age */
static int64_t next_tick(void)
{
    int64_t start_ns = get_clock();
    int64_t now_ns;

    do {
        now_ns = get_clock();
    } while (now_ns == start_ns);
    return now_ns;
}

/* The driver whose requests get stuck */

typedef struct StuckRequest {
    Coroutine *co;
    InflightRequestKind kind;
    int ret;
    QSIMPLEQ_ENTRY(StuckRequest) next;
} StuckRequest;

typedef struct StuckState {
    QemuSemaphore arrived;      /* posted for each request that gets stuck */

    QemuMutex lock;             /* protects everything below */
    bool stuck[INFLIGHT_REQUEST_KIND__MAX];
    int ret[INFLIGHT_REQUEST_KIND__MAX];    /* of those which do not */
    unsigned seen[INFLIGHT_REQUEST_KIND__MAX];
    QSIMPLEQ_HEAD(, StuckRequest) waiting;
    int64_t size;
} StuckState;

static int stuck_open(BlockDriverState *bs, QDict *options, int flags,
                      Error **errp)
{
    StuckState *s = bs->opaque;

    qemu_mutex_init(&s->lock);
    qemu_sem_init(&s->arrived, 0);
    QSIMPLEQ_INIT(&s->waiting);
    s->size = DISK_SIZE;
    return 0;
}

static void stuck_close(BlockDriverState *bs)
{
    StuckState *s = bs->opaque;

    g_assert(QSIMPLEQ_EMPTY(&s->waiting));
    qemu_sem_destroy(&s->arrived);
    qemu_mutex_destroy(&s->lock);
}

static int coroutine_fn stuck_pass(BlockDriverState *bs,
                                   InflightRequestKind kind)
{
    StuckState *s = bs->opaque;
    StuckRequest req = { .co = qemu_coroutine_self(), .kind = kind };
    bool stuck;

    g_assert(qemu_get_current_aio_context() == bdrv_get_aio_context(bs));

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        s->seen[kind]++;
        stuck = s->stuck[kind];
        req.ret = s->ret[kind];
        if (stuck) {
            QSIMPLEQ_INSERT_TAIL(&s->waiting, &req, next);
            qemu_sem_post(&s->arrived);
        }
    }
    if (stuck) {
        qemu_coroutine_yield();
    }
    return req.ret;
}

static int coroutine_fn stuck_co_preadv(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        BdrvRequestFlags flags)
{
    return stuck_pass(bs, READ);
}

static int coroutine_fn stuck_co_pwritev(BlockDriverState *bs, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         BdrvRequestFlags flags)
{
    return stuck_pass(bs, WRITE);
}

static int coroutine_fn stuck_co_pdiscard(BlockDriverState *bs, int64_t offset,
                                          int64_t bytes)
{
    return stuck_pass(bs, DISCARD);
}

static int coroutine_fn stuck_co_flush(BlockDriverState *bs)
{
    return stuck_pass(bs, FLUSH);
}

static int coroutine_fn stuck_co_ioctl(BlockDriverState *bs,
                                       unsigned long int req, void *buf)
{
    return stuck_pass(bs, IOCTL);
}

static int coroutine_fn stuck_co_truncate(BlockDriverState *bs, int64_t offset,
                                          bool exact, PreallocMode prealloc,
                                          BdrvRequestFlags flags, Error **errp)
{
    StuckState *s = bs->opaque;
    int ret = stuck_pass(bs, TRUNCATE);

    QEMU_LOCK_GUARD(&s->lock);
    s->size = offset;
    return ret;
}

static int64_t coroutine_fn stuck_co_getlength(BlockDriverState *bs)
{
    StuckState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    return s->size;
}

static BlockDriver bdrv_stuck = {
    .format_name        = "stuck",
    .instance_size      = sizeof(StuckState),
    .bdrv_open          = stuck_open,
    .bdrv_close         = stuck_close,
    .bdrv_co_preadv     = stuck_co_preadv,
    .bdrv_co_pwritev    = stuck_co_pwritev,
    .bdrv_co_pdiscard   = stuck_co_pdiscard,
    .bdrv_co_flush      = stuck_co_flush,
    .bdrv_co_ioctl      = stuck_co_ioctl,
    .bdrv_co_truncate   = stuck_co_truncate,
    .bdrv_co_getlength  = stuck_co_getlength,
    .bdrv_child_perm    = bdrv_default_perms,
};

/* Let requests of @kind get stuck from now on */
static void stuck_hold(BlockDriverState *bs, InflightRequestKind kind)
{
    StuckState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->stuck[kind] = true;
}

/* Let requests of @kind which do not get stuck fail */
static void stuck_set_ret(BlockDriverState *bs, InflightRequestKind kind,
                          int ret)
{
    StuckState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->ret[kind] = ret;
}

/* Let the requests of @kind which are stuck end with @ret */
static void stuck_let_go_ret(BlockDriverState *bs, InflightRequestKind kind,
                             int ret)
{
    StuckState *s = bs->opaque;
    QSIMPLEQ_HEAD(, StuckRequest) go = QSIMPLEQ_HEAD_INITIALIZER(go);
    StuckRequest *req, *next;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        s->stuck[kind] = false;
        QSIMPLEQ_FOREACH_SAFE(req, &s->waiting, next, next) {
            if (req->kind == kind) {
                req->ret = ret;
                QSIMPLEQ_REMOVE(&s->waiting, req, StuckRequest, next);
                QSIMPLEQ_INSERT_TAIL(&go, req, next);
            }
        }
    }

    /* A request that goes on ceases to exist */
    QSIMPLEQ_FOREACH_SAFE(req, &go, next, next) {
        aio_co_wake(req->co);
    }
}

static void stuck_let_go(BlockDriverState *bs, InflightRequestKind kind)
{
    stuck_let_go_ret(bs, kind, 0);
}

static void wait_for_stuck(BlockDriverState *bs)
{
    StuckState *s = bs->opaque;

    wait_for_sem(&s->arrived);
}

/* How many requests of @kind got as far as to the driver? */
static unsigned stuck_seen(BlockDriverState *bs, InflightRequestKind kind)
{
    StuckState *s = bs->opaque;

    QEMU_LOCK_GUARD(&s->lock);
    return s->seen[kind];
}

/* Requests */

typedef struct Request {
    BlockBackend *blk;
    InflightRequestKind kind;
    int64_t offset;
    int64_t bytes;
    BdrvRequestFlags flags;
    int ret;
    bool done;                  /* atomic */
    QemuSemaphore done_sem;
} Request;

static int coroutine_fn request_run(Request *req)
{
    g_autofree void *buf = g_malloc0(MAX(req->bytes, 1));

    switch (req->kind) {
    case READ:
        return blk_co_pread(req->blk, req->offset, req->bytes, buf, req->flags);
    case WRITE:
        return blk_co_pwrite(req->blk, req->offset, req->bytes, buf,
                             req->flags);
    case DISCARD:
        return blk_co_pdiscard(req->blk, req->offset, req->bytes, 0);
    case TRUNCATE:
        return blk_co_truncate(req->blk, req->offset, true, PREALLOC_MODE_OFF,
                               0, &error_abort);
    case FLUSH:
        return blk_co_flush(req->blk);
    case IOCTL:
        return blk_co_ioctl(req->blk, 0, NULL);
    default:
        g_assert_not_reached();
    }
}

static void coroutine_fn request_co_entry(void *opaque)
{
    Request *req = opaque;

    req->ret = request_run(req);
    qatomic_set(&req->done, true);
    qemu_sem_post(&req->done_sem);
}

static Request *request_new_flags(BlockBackend *blk, InflightRequestKind kind,
                                  int64_t offset, int64_t bytes,
                                  BdrvRequestFlags flags)
{
    Request *req = g_new0(Request, 1);

    req->blk = blk;
    req->kind = kind;
    req->offset = offset;
    req->bytes = bytes;
    req->flags = flags;
    qemu_sem_init(&req->done_sem, 0);
    aio_co_enter(blk_get_aio_context(blk),
                 qemu_coroutine_create(request_co_entry, req));
    return req;
}

static Request *request_new(BlockBackend *blk, InflightRequestKind kind,
                            int64_t offset, int64_t bytes)
{
    return request_new_flags(blk, kind, offset, bytes, 0);
}

/* Returns when the request is known to hang in the driver of @bs */
static Request *request_new_stuck(BlockBackend *blk, BlockDriverState *bs,
                                  InflightRequestKind kind,
                                  int64_t offset, int64_t bytes)
{
    Request *req;

    stuck_hold(bs, kind);
    req = request_new(blk, kind, offset, bytes);
    wait_for_stuck(bs);
    return req;
}

static bool request_done(Request *req)
{
    return qatomic_read(&req->done);
}

/* Wait without running the main AioContext, if it is not needed */
static void request_wait(Request *req)
{
    if (blk_get_aio_context(req->blk) == qemu_get_aio_context()) {
        wait_for(request_done(req));
    }
    wait_for_sem(&req->done_sem);
}

static void request_finish(Request *req)
{
    request_wait(req);
    g_assert_cmpint(req->ret, ==, 0);
    qemu_sem_destroy(&req->done_sem);
    g_free(req);
}

/* Run one that does not get stuck */
static void request_do(BlockBackend *blk, InflightRequestKind kind)
{
    request_finish(request_new(blk, kind, 0, 512));
}

/* Disks */

static BlockBackend *disk_new(const char *node_name, AioContext *ctx)
{
    BlockBackend *blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL,
                                BLK_PERM_ALL);
    BlockDriverState *bs = bdrv_new_open_driver(&bdrv_stuck, node_name,
                                                BDRV_O_RDWR | BDRV_O_UNMAP,
                                                &error_abort);

    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    blk_set_aio_context(blk, ctx, &error_abort);
    return blk;
}

static void disk_free(BlockBackend *blk)
{
    blk_set_aio_context(blk, qemu_get_aio_context(), &error_abort);
    blk_unref(blk);
}

typedef struct Fixture {
    IOThread *iothread;
    AioContext *ctx;
    BlockBackend *blk;
    BlockDriverState *bs;       /* the node which gets stuck */
} Fixture;

static void setup(Fixture *f, gconstpointer in_iothread)
{
    f->ctx = qemu_get_aio_context();
    if (in_iothread) {
        f->iothread = iothread_new();
        f->ctx = iothread_get_aio_context(f->iothread);
    }
    f->blk = disk_new("disk", f->ctx);
    f->bs = blk_bs(f->blk);
}

/* Whatever a test has done, nothing may be left of it */
static void teardown(Fixture *f, gconstpointer in_iothread)
{
    uint32_t omitted;

    run_pending_bhs();
    g_assert(!bdrv_inflight_requests(NO_MAX, &omitted));
    g_assert_cmpuint(omitted, ==, 0);
    g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
    /* aio_wait_kick() is for free again */
    g_assert_cmpuint(global_aio_wait.num_waiters, ==, 0);

    disk_free(f->blk);
    if (f->iothread) {
        iothread_join(f->iothread);
    }
    g_assert(!bdrv_next_all_states(NULL));
}

/* Put a raw node, which passes everything on to the disk, on top of it */
static BlockDriverState *add_raw(Fixture *f, const char *offset)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;

    qdict_put_str(options, "driver", "raw");
    qdict_put_str(options, "node-name", "raw");
    qdict_put_str(options, "file", "disk");
    qdict_put_str(options, "discard", "unmap");
    qdict_put_str(options, "offset", offset);
    blk_set_aio_context(f->blk, qemu_get_aio_context(), &error_abort);
    bdrv_ref(f->bs);
    blk_remove_bs(f->blk);
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                   &error_abort);
    bdrv_unref(f->bs);
    blk_insert_bs(f->blk, bs, &error_abort);
    bdrv_unref(bs);
    blk_set_aio_context(f->blk, f->ctx, &error_abort);
    return bs;
}

/* Waiters */

typedef struct TestWaiter {
    BdrvTimedDrainWaiter waiter;
    unsigned woken;
    bool del_on_wake;
} TestWaiter;

static void test_wake(void *opaque)
{
    TestWaiter *w = opaque;

    g_assert(g_thread_self() == main_thread);
    g_assert(qemu_get_current_aio_context() == qemu_get_aio_context());
    w->woken++;
    if (w->del_on_wake) {
        bdrv_timed_drain_waiter_del(&w->waiter);
    }
}

static void waiter_add(TestWaiter *w)
{
    run_pending_bhs();
    *w = (TestWaiter) { };
    bdrv_timed_drain_waiter_add(&w->waiter, test_wake, w);
}

static void waiter_del(TestWaiter *w)
{
    bdrv_timed_drain_waiter_del(&w->waiter);
}

/* There has to be a wakeup even if the condition is true already */
#define wait_for_wake_and(w, cond) do { \
    do {                                \
        wait_for((w)->woken);           \
        (w)->woken = 0;                 \
    } while (!(cond));                  \
} while (0)

/* Drained section */

/* Broken: busy although nothing is going on; the assertion on busy fails. */
static void test_drain_idle(Fixture *f, gconstpointer data)
{
    bdrv_timed_drain_begin(NULL, NULL);
    g_assert(!bdrv_timed_drain_busy());
    g_assert(!bdrv_timed_drain_held_back());
    g_assert_cmpint(f->bs->quiesce_counter, >, 0);
    bdrv_timed_drain_end();
    g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
    request_do(f->blk, READ);
}

/* Broken: not busy (assertion), or nobody is woken up (hangs in wait_for). */
static void test_drain_stuck_request(Fixture *f, gconstpointer data)
{
    Request *req = request_new_stuck(f->blk, f->bs, WRITE, 0, 512);
    TestWaiter w;

    bdrv_timed_drain_begin(NULL, NULL);
    waiter_add(&w);
    g_assert(bdrv_timed_drain_busy());
    run_pending_bhs();
    g_assert_cmpuint(w.woken, ==, 0);
    g_assert(bdrv_timed_drain_busy());

    stuck_let_go(f->bs, WRITE);
    wait_for_wake_and(&w, !bdrv_timed_drain_busy());
    g_assert(request_done(req) || f->iothread);
    g_assert(!bdrv_timed_drain_held_back());
    waiter_del(&w);

    bdrv_timed_drain_end();
    g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
    request_finish(req);
}

/*
 * Broken: the request reaches the driver within the section, or nobody knows
 * that it was held back (hangs in wait_for).
 */
static void test_drain_holds_back(Fixture *f, gconstpointer data)
{
    Request *req;
    TestWaiter w;

    bdrv_timed_drain_begin(NULL, NULL);
    g_assert(!bdrv_timed_drain_busy());

    waiter_add(&w);
    req = request_new(f->blk, WRITE, 0, 512);
    wait_for_wake_and(&w, bdrv_timed_drain_held_back());
    waiter_del(&w);
    g_assert(!bdrv_timed_drain_busy());
    g_assert_cmpuint(stuck_seen(f->bs, WRITE), ==, 0);
    g_assert(!request_done(req));

    bdrv_timed_drain_end();
    request_finish(req);
    g_assert_cmpuint(stuck_seen(f->bs, WRITE), ==, 1);
    g_assert(!bdrv_timed_drain_held_back());
}

/*
 * Broken: a section that was given up stays on (quiesce_counter), or a later
 * one does not begin.
 */
static void test_drain_end_after_timeout(Fixture *f, gconstpointer data)
{
    Request *req = request_new_stuck(f->blk, f->bs, WRITE, 0, 512);
    Request *held;
    TestWaiter w;

    for (int i = 0; i < 3; i++) {
        bdrv_timed_drain_begin(NULL, NULL);
        g_assert(bdrv_timed_drain_busy());
        waiter_add(&w);
        held = request_new(f->blk, READ, 4096, 512);
        wait_for_wake_and(&w, bdrv_timed_drain_held_back());
        waiter_del(&w);
        g_assert(bdrv_timed_drain_busy());
        bdrv_timed_drain_end();

        g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
        request_finish(held);
        request_do(f->blk, DISCARD);
        g_assert(!request_done(req));
    }

    bdrv_timed_drain_begin(NULL, NULL);
    waiter_add(&w);
    stuck_let_go(f->bs, WRITE);
    wait_for_wake_and(&w, !bdrv_timed_drain_busy());
    waiter_del(&w);
    bdrv_timed_drain_end();
    request_finish(req);
    g_assert_cmpuint(stuck_seen(f->bs, WRITE), ==, 1);
}

/*
 * A section ends just when a request is about to park.
 * Broken: after some rounds, it parks for ever (hangs in request_finish).
 */
static void test_drain_end_race(Fixture *f, gconstpointer data)
{
    int64_t end_ns = get_clock() + RACE_MS * SCALE_MS;
    unsigned rounds = 0;

    while (get_clock() < end_ns) {
        Request *req;

        bdrv_timed_drain_begin(NULL, NULL);
        req = request_new(f->blk, READ, 0, 512);
        while (!blk_has_in_flight(f->blk) && !bdrv_timed_drain_held_back()) {
            /* It has not arrived there yet */
        }
        for (unsigned i = 0; i < rounds % RACE_STEPS; i++) {
            next_tick();
        }
        bdrv_timed_drain_end();
        request_finish(req);
        rounds++;
    }
    g_test_message("%u rounds", rounds);
}

/* Broken: the inner section's end ends the outer one, the request goes on. */
static void test_drain_nested(Fixture *f, gconstpointer data)
{
    Request *req;
    TestWaiter w;

    bdrv_drained_begin(f->bs);
    bdrv_timed_drain_begin(NULL, NULL);
    waiter_add(&w);
    req = request_new(f->blk, WRITE, 0, 512);
    wait_for_wake_and(&w, bdrv_timed_drain_held_back());
    waiter_del(&w);
    bdrv_timed_drain_end();
    g_assert_cmpint(f->bs->quiesce_counter, ==, 1);
    run_pending_bhs();
    g_assert_cmpuint(stuck_seen(f->bs, WRITE), ==, 0);
    bdrv_drained_end(f->bs);
    g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
    request_finish(req);

    bdrv_timed_drain_begin(NULL, NULL);
    bdrv_drained_begin(f->bs);
    waiter_add(&w);
    req = request_new(f->blk, WRITE, 0, 512);
    wait_for_wake_and(&w, bdrv_timed_drain_held_back());
    waiter_del(&w);
    bdrv_drained_end(f->bs);
    g_assert_cmpint(f->bs->quiesce_counter, ==, 1);
    run_pending_bhs();
    g_assert_cmpuint(stuck_seen(f->bs, WRITE), ==, 1);
    bdrv_timed_drain_end();
    g_assert_cmpint(f->bs->quiesce_counter, ==, 0);
    request_finish(req);

    /* An ordinary drain waits, after which there is nothing to wait for */
    bdrv_drain_all_begin();
    bdrv_timed_drain_begin(NULL, NULL);
    g_assert(!bdrv_timed_drain_busy());
    bdrv_timed_drain_end();
    bdrv_drain_all_end();
}

/* Waiter */

/*
 * Broken: the request completes before the first look, and the wakeup that it
 * caused does not come (hangs in wait_for).
 */
static void test_waiter_before_first_look(Fixture *f, gconstpointer data)
{
    Request *req = request_new_stuck(f->blk, f->bs, WRITE, 0, 512);
    TestWaiter w;

    bdrv_timed_drain_begin(NULL, NULL);
    waiter_add(&w);
    stuck_let_go(f->bs, WRITE);
    if (f->iothread) {
        request_wait(req);
        qemu_sem_post(&req->done_sem);
    } else {
        g_assert(request_done(req));
    }
    g_assert_cmpuint(w.woken, ==, 0);
    wait_for(w.woken);
    g_assert(!bdrv_timed_drain_busy());
    waiter_del(&w);
    bdrv_timed_drain_end();
    request_finish(req);
}

/* Broken: look and completion race, and the wakeup is lost (hangs). */
static void test_waiter_race(Fixture *f, gconstpointer data)
{
    for (int i = 0; i < 2000; i++) {
        Request *req = request_new_stuck(f->blk, f->bs, READ, 0, 512);
        TestWaiter w;

        bdrv_timed_drain_begin(NULL, NULL);
        waiter_add(&w);
        stuck_let_go(f->bs, READ);
        while (bdrv_timed_drain_busy()) {
            wait_for(w.woken);
            w.woken = 0;
        }
        waiter_del(&w);
        bdrv_timed_drain_end();
        request_finish(req);
    }
}

/* Broken: only one of the two is woken up (hangs). */
static void test_waiter_two(Fixture *f, gconstpointer data)
{
    TestWaiter a, b;

    waiter_add(&a);
    waiter_add(&b);
    request_do(f->blk, READ);
    wait_for(a.woken && b.woken);

    waiter_del(&a);
    run_pending_bhs();
    a.woken = b.woken = 0;
    request_do(f->blk, READ);
    wait_for(b.woken);
    g_assert_cmpuint(a.woken, ==, 0);
    waiter_del(&b);
    g_assert_cmpuint(global_aio_wait.num_waiters, ==, 0);
}

/*
 * Broken: a waiter that removes itself is called again (woken > 1), or takes
 * the others with it (hangs), or the list is walked into freed memory.
 */
static void test_waiter_del_in_wake(Fixture *f, gconstpointer data)
{
    TestWaiter *before = g_new0(TestWaiter, 1);
    TestWaiter *w = g_new0(TestWaiter, 1);
    TestWaiter *after = g_new0(TestWaiter, 1);

    waiter_add(before);
    waiter_add(w);
    waiter_add(after);
    w->del_on_wake = true;
    request_do(f->blk, READ);
    wait_for(before->woken && w->woken && after->woken);
    g_assert_cmpuint(w->woken, ==, 1);

    run_pending_bhs();
    before->woken = after->woken = 0;
    request_do(f->blk, READ);
    wait_for(before->woken && after->woken);
    g_assert_cmpuint(w->woken, ==, 1);

    g_assert_cmpuint(global_aio_wait.num_waiters, ==, 2);
    waiter_del(before);
    waiter_del(after);
    g_free(before);
    g_free(w);
    g_free(after);
}

/* Requests in flight */

static void assert_request(const InflightRequest *req, const char *node,
                           InflightRequestKind kind, int64_t offset,
                           int64_t bytes)
{
    bool has_range = kind == READ || kind == WRITE || kind == DISCARD ||
                     kind == TRUNCATE;

    g_assert_cmpstr(req->node, ==, node);
    g_assert_cmpstr(InflightRequestKind_str(req->kind), ==,
                    InflightRequestKind_str(kind));
    g_assert_cmpint(req->has_offset, ==, has_range);
    g_assert_cmpint(req->has_bytes, ==, has_range);
    if (has_range) {
        g_assert_cmpint(req->offset, ==, offset);
        g_assert_cmpint(req->bytes, ==, bytes);
    }
    g_assert_cmpint(req->has_age_ms, ==, kind != OTHER);
}

/* Is this single request all that there is? */
static void assert_only_request(const char *node, InflightRequestKind kind,
                                int64_t offset, int64_t bytes)
{
    uint32_t omitted = -1;
    g_autoptr(InflightRequestList) list = bdrv_inflight_requests(NO_MAX,
                                                                 &omitted);

    g_assert(list);
    assert_request(list->value, node, kind, offset, bytes);
    g_assert(!list->value->device);
    g_assert(!list->next);
    g_assert_cmpuint(omitted, ==, 0);
}

static void assert_no_request(void)
{
    uint32_t omitted = -1;

    g_assert(!bdrv_inflight_requests(NO_MAX, &omitted));
    g_assert_cmpuint(omitted, ==, 0);
}

/*
 * Broken: a request of some kind is not listed, is listed as another kind
 * ("other" if it is not tracked), or with a range that means nothing.
 */
static void test_inflight_kinds(Fixture *f, gconstpointer data)
{
    static const struct {
        InflightRequestKind kind;
        int64_t offset, bytes;
    } row[] = {
        { READ, 4096, 1024 },
        { WRITE, 512, 2048 },
        { DISCARD, 65536, 4096 },
        { FLUSH, 0, 0 },
        { IOCTL, 0, 0 },
    };

    for (int i = 0; i < ARRAY_SIZE(row); i++) {
        Request *req = request_new_stuck(f->blk, f->bs, row[i].kind,
                                         row[i].offset, row[i].bytes);

        assert_only_request("disk", row[i].kind, row[i].offset, row[i].bytes);

        bdrv_timed_drain_begin(NULL, NULL);
        g_assert(bdrv_timed_drain_busy());
        assert_only_request("disk", row[i].kind, row[i].offset, row[i].bytes);
        bdrv_timed_drain_end();

        stuck_let_go(f->bs, row[i].kind);
        request_finish(req);
        assert_no_request();
    }
}

/* Broken: not listed, or with the new size instead of what is added to it. */
static void test_inflight_truncate(Fixture *f, gconstpointer data)
{
    Request *req = request_new_stuck(f->blk, f->bs, TRUNCATE,
                                     DISK_SIZE + 65536, 0);

    assert_only_request("disk", TRUNCATE, DISK_SIZE, 65536);
    stuck_let_go(f->bs, TRUNCATE);
    request_finish(req);
    assert_no_request();
}

/* Broken: something is listed for a disk that has nothing to do. */
static void test_inflight_idle(Fixture *f, gconstpointer data)
{
    assert_no_request();
    bdrv_timed_drain_begin(NULL, NULL);
    assert_no_request();
    bdrv_timed_drain_end();
    request_do(f->blk, WRITE);
    request_do(f->blk, FLUSH);
    assert_no_request();
}

/* Broken: listed in another order, or not the oldest ones with a limit. */
static void test_inflight_oldest_first(Fixture *f, gconstpointer data)
{
    static const InflightRequestKind kind[] = { WRITE, FLUSH, READ, DISCARD };
    BlockBackend *second = disk_new("second", f->ctx);
    Request *req[ARRAY_SIZE(kind)];

    for (int i = 0; i < ARRAY_SIZE(kind); i++) {
        BlockBackend *blk = i % 2 ? f->blk : second;

        next_tick();
        req[i] = request_new_stuck(blk, blk_bs(blk), kind[i], i * 4096, 512);
    }

    for (unsigned max = 0; max <= ARRAY_SIZE(kind) + 1; max++) {
        uint32_t omitted = -1;
        g_autoptr(InflightRequestList) list = bdrv_inflight_requests(max,
                                                                     &omitted);
        InflightRequestList *l = list;
        unsigned listed = MIN(max, ARRAY_SIZE(kind));

        for (int i = 0; i < listed; i++) {
            g_assert(l);
            assert_request(l->value, i % 2 ? "disk" : "second", kind[i],
                           i * 4096, 512);
            l = l->next;
        }
        g_assert(!l);
        g_assert_cmpuint(omitted, ==, ARRAY_SIZE(kind) - listed);
    }

    for (int i = 0; i < ARRAY_SIZE(kind); i++) {
        BlockBackend *blk = i % 2 ? f->blk : second;

        stuck_let_go(blk_bs(blk), kind[i]);
        request_finish(req[i]);
    }
    disk_free(second);
}

static int64_t only_request_age_ms(void)
{
    uint32_t omitted;
    g_autoptr(InflightRequestList) list = bdrv_inflight_requests(1, &omitted);

    g_assert(list);
    g_assert(list->value->has_age_ms);
    return list->value->age_ms;
}

/* Broken: the age is none (start_ns not set), in another unit, or stands. */
static void test_inflight_age(Fixture *f, gconstpointer data)
{
    int64_t before_ns = get_clock();
    Request *req = request_new_stuck(f->blk, f->bs, FLUSH, 0, 0);
    int64_t after_ns = get_clock();
    int64_t first_ms = only_request_age_ms();
    int64_t age_ms;

    do {
        int64_t look_ns = get_clock();

        age_ms = only_request_age_ms();
        g_assert_cmpint(age_ms, >=, (look_ns - after_ns) / SCALE_MS);
        g_assert_cmpint(age_ms, <=, (get_clock() - before_ns) / SCALE_MS);
    } while (get_clock() - after_ns < (first_ms + 20) * SCALE_MS);
    g_assert_cmpint(only_request_age_ms(), >, first_ms);

    stuck_let_go(f->bs, FLUSH);
    request_finish(req);
}

/* Broken: the request is listed twice, or for the node that passed it on. */
static void test_inflight_passed_on(Fixture *f, gconstpointer data)
{
    static const InflightRequestKind kind[] = {
        READ, WRITE, DISCARD, FLUSH, IOCTL
    };

    add_raw(f, "0");
    for (int i = 0; i < ARRAY_SIZE(kind); i++) {
        Request *req = request_new_stuck(f->blk, f->bs, kind[i], 4096, 512);

        assert_only_request("disk", kind[i], 4096, 512);
        bdrv_timed_drain_begin(NULL, NULL);
        assert_only_request("disk", kind[i], 4096, 512);
        bdrv_timed_drain_end();
        stuck_let_go(f->bs, kind[i]);
        request_finish(req);
    }
}

/* Broken: one of two requests that differ is left out. */
static void test_inflight_layers(Fixture *f, gconstpointer data)
{
    g_autoptr(InflightRequestList) list = NULL;
    uint32_t omitted = -1;
    Request *req;

    add_raw(f, "65536");
    req = request_new_stuck(f->blk, f->bs, WRITE, 4096, 512);

    list = bdrv_inflight_requests(NO_MAX, &omitted);
    g_assert(list);
    assert_request(list->value, "raw", WRITE, 4096, 512);
    g_assert(list->next);
    assert_request(list->next->value, "disk", WRITE, 4096 + 65536, 512);
    g_assert(!list->next->next);
    g_assert_cmpuint(omitted, ==, 0);

    stuck_let_go(f->bs, WRITE);
    request_finish(req);
}

/*
 * Broken: a node that is busy without a request is not listed, or also where
 * a request says all there is to say.
 */
static void test_inflight_other(Fixture *f, gconstpointer data)
{
    Request *req;

    blk_inc_in_flight(f->blk);
    assert_no_request();
    bdrv_timed_drain_begin(NULL, NULL);
    g_assert(bdrv_timed_drain_busy());
    assert_only_request("disk", OTHER, 0, 0);
    bdrv_timed_drain_end();

    req = request_new_stuck(f->blk, f->bs, WRITE, 0, 512);
    bdrv_timed_drain_begin(NULL, NULL);
    assert_only_request("disk", WRITE, 0, 512);
    bdrv_timed_drain_end();
    stuck_let_go(f->bs, WRITE);
    request_finish(req);

    blk_dec_in_flight(f->blk);
    bdrv_timed_drain_begin(NULL, NULL);
    g_assert(!bdrv_timed_drain_busy());
    assert_no_request();
    bdrv_timed_drain_end();
}

/* Broken: who waits for a request further down is listed as busy, too. */
static void test_inflight_other_above(Fixture *f, gconstpointer data)
{
    BlockBackend *direct = blk_new(f->ctx, BLK_PERM_ALL, BLK_PERM_ALL);
    Request *req;

    add_raw(f, "0");
    blk_insert_bs(direct, f->bs, &error_abort);
    blk_inc_in_flight(f->blk);
    req = request_new_stuck(direct, f->bs, WRITE, 0, 512);

    bdrv_timed_drain_begin(NULL, NULL);
    assert_only_request("disk", WRITE, 0, 512);
    bdrv_timed_drain_end();

    stuck_let_go(f->bs, WRITE);
    request_finish(req);
    bdrv_timed_drain_begin(NULL, NULL);
    assert_only_request("raw", OTHER, 0, 0);
    bdrv_timed_drain_end();
    blk_dec_in_flight(f->blk);
    blk_remove_bs(direct);
    blk_unref(direct);
}

static void assert_only_request_device(const char *device)
{
    uint32_t omitted;
    g_autoptr(InflightRequestList) list = bdrv_inflight_requests(NO_MAX,
                                                                 &omitted);

    g_assert(list);
    g_assert(!list->next);
    g_assert_cmpstr(list->value->device, ==, device);
}

/* Broken: no device, or the path of a part instead of the ID of the whole. */
static void test_inflight_device(Fixture *f, gconstpointer data)
{
    Object *whole = object_new(TYPE_DEVICE);
    Object *part = object_new(TYPE_DEVICE);
    Request *req;

    object_property_add_child(whole, "part", part);
    DEVICE(whole)->id = g_strdup("vda");
    add_raw(f, "0");
    g_assert_cmpint(blk_attach_dev(f->blk, DEVICE(part)), ==, 0);

    req = request_new_stuck(f->blk, f->bs, READ, 0, 512);
    assert_only_request_device("vda");
    DEVICE(part)->id = g_strdup("part");
    assert_only_request_device("part");
    stuck_let_go(f->bs, READ);
    request_finish(req);

    blk_detach_dev(f->blk, DEVICE(part));
    g_free(DEVICE(whole)->id);
    g_free(DEVICE(part)->id);
    object_unref(part);
    object_unref(whole);
}

/* Broken: an old request is not found, or a newer one is taken for it. */
static void test_inflight_since(Fixture *f, gconstpointer data)
{
    int64_t before_ns = get_clock();
    int64_t after_ns;
    Request *req;

    g_assert(!bdrv_has_request_since(get_clock()));
    next_tick();
    req = request_new_stuck(f->blk, f->bs, FLUSH, 0, 0);
    after_ns = get_clock();
    g_assert(!bdrv_has_request_since(before_ns));
    g_assert(bdrv_has_request_since(after_ns));

    stuck_let_go(f->bs, FLUSH);
    request_finish(req);
    g_assert(!bdrv_has_request_since(after_ns));
    g_assert(!bdrv_has_request_since(get_clock()));
}

/* Flush */

/* The end of a flush nobody waits for: the reference to the node is dropped */
static void wait_for_refcnt(BlockDriverState *bs, int refcnt)
{
    wait_for(bs->refcnt == refcnt);
}

/*
 * Broken: a node is left out (seen, or hangs in wait_for_stuck), is flushed in
 * a foreign AioContext (stuck_pass), the flush is done before the last node is
 * (assertion), or nobody is woken up (hangs in wait_for).
 */
static void test_flush_all_nodes(Fixture *f, gconstpointer data)
{
    BlockBackend *second = disk_new("second", f->ctx);
    /* In any case one in the main AioContext, too */
    BlockBackend *third = disk_new("third", qemu_get_aio_context());
    BlockDriverState *bs[] = { f->bs, blk_bs(second), blk_bs(third) };
    int refcnt[ARRAY_SIZE(bs)];
    BdrvTimedFlush *flush;
    TestWaiter w;
    int ret = -1;

    for (int i = 0; i < ARRAY_SIZE(bs); i++) {
        refcnt[i] = bs[i]->refcnt;
        stuck_hold(bs[i], FLUSH);
    }

    waiter_add(&w);
    flush = bdrv_timed_flush_start();
    for (int i = 0; i < ARRAY_SIZE(bs); i++) {
        wait_for_stuck(bs[i]);
    }

    for (int i = 0; i < ARRAY_SIZE(bs); i++) {
        g_assert(!bdrv_timed_flush_done(flush, &ret));
        g_assert_cmpint(ret, ==, -1);
        if (i == ARRAY_SIZE(bs) - 1) {
            run_pending_bhs();
            w.woken = 0;
        }
        stuck_let_go(bs[i], FLUSH);
        if (i < ARRAY_SIZE(bs) - 1) {
            wait_for_refcnt(bs[i], refcnt[i]);
        }
    }
    wait_for_wake_and(&w, bdrv_timed_flush_done(flush, &ret));
    g_assert_cmpint(ret, ==, 0);
    bdrv_timed_flush_release(flush);
    waiter_del(&w);

    for (int i = 0; i < ARRAY_SIZE(bs); i++) {
        g_assert_cmpuint(stuck_seen(bs[i], FLUSH), ==, 1);
        g_assert_cmpint(bs[i]->refcnt, ==, refcnt[i]);
    }
    disk_free(third);
    disk_free(second);
}

/*
 * The requests have completed before there was a waiter, so that theirs are no
 * wakeups.  Broken: the flush itself has none either (hangs in wait_for).
 */
static void test_flush_late_waiter(Fixture *f, gconstpointer data)
{
    BdrvTimedFlush *flush;
    TestWaiter w = { };
    int ret = -1;

    stuck_hold(f->bs, FLUSH);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    stuck_let_go(f->bs, FLUSH);
    /* When this is done, so is what was scheduled before it */
    request_do(f->blk, READ);

    bdrv_timed_drain_waiter_add(&w.waiter, test_wake, &w);
    g_assert(!bdrv_timed_flush_done(flush, &ret));
    wait_for_wake_and(&w, bdrv_timed_flush_done(flush, &ret));
    g_assert_cmpint(ret, ==, 0);
    waiter_del(&w);
    bdrv_timed_flush_release(flush);
}

/* Broken: success, or the error of the node that failed last. */
static void test_flush_first_error(Fixture *f, gconstpointer data)
{
    BlockBackend *second = disk_new("second", f->ctx);
    BlockBackend *third = disk_new("third", f->ctx);
    BlockDriverState *bs2 = blk_bs(second);
    BlockDriverState *bs3 = blk_bs(third);
    int refcnt = f->bs->refcnt;
    BdrvTimedFlush *flush;
    TestWaiter w;
    int ret = 1;

    stuck_hold(f->bs, FLUSH);
    stuck_hold(bs2, FLUSH);
    stuck_hold(bs3, FLUSH);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    wait_for_stuck(bs2);
    wait_for_stuck(bs3);

    stuck_let_go_ret(bs2, FLUSH, -ENOSPC);
    wait_for_refcnt(bs2, refcnt);
    stuck_let_go_ret(f->bs, FLUSH, -EIO);
    wait_for_refcnt(f->bs, refcnt);
    g_assert(!bdrv_timed_flush_done(flush, &ret));
    g_assert_cmpint(ret, ==, 1);

    waiter_add(&w);
    stuck_let_go(bs3, FLUSH);
    wait_for_wake_and(&w, bdrv_timed_flush_done(flush, &ret));
    waiter_del(&w);
    g_assert_cmpint(ret, ==, -ENOSPC);
    bdrv_timed_flush_release(flush);

    /* Somebody was there to be told */
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
    disk_free(third);
    disk_free(second);
}

/* Broken: the error of an abandoned flush is lost, or is returned twice. */
static void test_flush_late_error(Fixture *f, gconstpointer data)
{
    int refcnt = f->bs->refcnt;
    BdrvTimedFlush *flush;
    int ret;

    stuck_hold(f->bs, FLUSH);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    g_assert(!bdrv_timed_flush_done(flush, &ret));
    bdrv_timed_flush_release(flush);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);

    stuck_let_go_ret(f->bs, FLUSH, -EIO);
    wait_for_refcnt(f->bs, refcnt);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, -EIO);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
}

/*
 * Broken: an abandoned flush which succeeds leaves an error or memory behind
 * (sanitizer), or a flush behind it does not come to an end (hangs).
 */
static void test_flush_late_success(Fixture *f, gconstpointer data)
{
    int refcnt = f->bs->refcnt;
    BdrvTimedFlush *flush;
    TestWaiter w;
    int ret = -1;

    stuck_hold(f->bs, FLUSH);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    bdrv_timed_flush_release(flush);

    waiter_add(&w);
    flush = bdrv_timed_flush_start();
    g_assert(!bdrv_timed_flush_done(flush, &ret));
    stuck_let_go(f->bs, FLUSH);
    wait_for_wake_and(&w, bdrv_timed_flush_done(flush, &ret));
    waiter_del(&w);
    g_assert_cmpint(ret, ==, 0);
    bdrv_timed_flush_release(flush);

    wait_for_refcnt(f->bs, refcnt);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
}

/*
 * The disk reports the loss of data once, and that is to a flush which was
 * abandoned; the next one, which waits behind it, succeeds.
 * Broken: the next one is done before anyone can know of the error.
 */
static void test_flush_late_error_then_success(Fixture *f, gconstpointer data)
{
    BdrvTimedFlush *flush;
    TestWaiter w;
    int ret = -1;

    stuck_hold(f->bs, FLUSH);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    bdrv_timed_flush_release(flush);

    waiter_add(&w);
    flush = bdrv_timed_flush_start();
    stuck_let_go_ret(f->bs, FLUSH, -EIO);
    wait_for_wake_and(&w, bdrv_timed_flush_done(flush, &ret));
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, -EIO);
    waiter_del(&w);
    bdrv_timed_flush_release(flush);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
    g_assert_cmpuint(stuck_seen(f->bs, FLUSH), ==, 2);
}

/*
 * One disk fails, another one hangs, and the flush is given up.
 * Broken: the error that nobody could see so far is lost.
 */
static void test_flush_error_before_release(Fixture *f, gconstpointer data)
{
    BlockBackend *second = disk_new("second", f->ctx);
    BlockDriverState *bs2 = blk_bs(second);
    int refcnt = f->bs->refcnt;
    BdrvTimedFlush *flush;
    int ret;

    stuck_hold(f->bs, FLUSH);
    stuck_set_ret(bs2, FLUSH, -EIO);
    flush = bdrv_timed_flush_start();
    wait_for_stuck(f->bs);
    wait_for_refcnt(bs2, refcnt);
    g_assert(!bdrv_timed_flush_done(flush, &ret));
    bdrv_timed_flush_release(flush);

    stuck_let_go(f->bs, FLUSH);
    wait_for_refcnt(f->bs, refcnt);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, -EIO);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
    disk_free(second);
}

/* Broken: without a disk, a flush is never done, or fails. */
static void test_flush_nothing(void)
{
    BdrvTimedFlush *flush = bdrv_timed_flush_start();
    int ret = -1;

    g_assert(bdrv_timed_flush_done(flush, &ret));
    g_assert_cmpint(ret, ==, 0);
    bdrv_timed_flush_release(flush);
    g_assert_cmpint(bdrv_timed_flush_take_late_error(), ==, 0);
}

/* Tracking */

/*
 * Broken: a flush or an ioctl counts as if it overlapped with a serialising
 * write, which so gets stuck, too (hangs).
 */
static void test_track_serialising(Fixture *f, gconstpointer data)
{
    Request *flush, *ioctl, *read, *write;

    flush = request_new_stuck(f->blk, f->bs, FLUSH, 0, 0);
    ioctl = request_new_stuck(f->blk, f->bs, IOCTL, 0, 0);
    request_finish(request_new_flags(f->blk, WRITE, 0, 4096,
                                     BDRV_REQ_SERIALISING));
    request_finish(request_new_flags(f->blk, WRITE, 4096, 4096,
                                     BDRV_REQ_SERIALISING));
    stuck_let_go(f->bs, FLUSH);
    stuck_let_go(f->bs, IOCTL);
    request_finish(flush);
    request_finish(ioctl);

    /* Nor do they wait for a serialising write */
    stuck_hold(f->bs, WRITE);
    write = request_new_flags(f->blk, WRITE, 0, 4096, BDRV_REQ_SERIALISING);
    wait_for_stuck(f->bs);
    request_do(f->blk, FLUSH);
    request_do(f->blk, IOCTL);
    stuck_let_go(f->bs, WRITE);
    request_finish(write);

    /* That this can be seen at all: a read does overlap */
    read = request_new_stuck(f->blk, f->bs, READ, 0, 512);
    write = request_new_flags(f->blk, WRITE, 0, 4096, BDRV_REQ_SERIALISING);
    request_do(f->blk, FLUSH);
    g_assert(!request_done(write));
    stuck_let_go(f->bs, READ);
    request_finish(read);
    request_finish(write);
}

/* The real thing is not linked; all that is asked for is id and parent */
static const TypeInfo device_type_info = {
    .name = TYPE_DEVICE,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(DeviceState),
};

static void add_test(const char *name,
                     void (*test)(Fixture *f, gconstpointer data))
{
    g_autofree char *in_main = g_strdup_printf("/timed-drain/%s/main", name);
    g_autofree char *in_iothread =
        g_strdup_printf("/timed-drain/%s/iothread", name);

    g_test_add(in_main, Fixture, NULL, setup, test, teardown);
    g_test_add(in_iothread, Fixture, (void *)1, setup, test, teardown);
}

int main(int argc, char **argv)
{
    main_thread = g_thread_self();
    module_call_init(MODULE_INIT_QOM);
    type_register_static(&device_type_info);
    bdrv_init();
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);

    add_test("drain/idle", test_drain_idle);
    add_test("drain/stuck-request", test_drain_stuck_request);
    add_test("drain/holds-back", test_drain_holds_back);
    add_test("drain/end-after-timeout", test_drain_end_after_timeout);
    g_test_add("/timed-drain/drain/end-race", Fixture, (void *)1, setup,
               test_drain_end_race, teardown);
    add_test("drain/nested", test_drain_nested);

    add_test("waiter/before-first-look", test_waiter_before_first_look);
    add_test("waiter/race", test_waiter_race);
    add_test("waiter/two", test_waiter_two);
    add_test("waiter/del-in-wake", test_waiter_del_in_wake);

    add_test("inflight/idle", test_inflight_idle);
    add_test("inflight/kinds", test_inflight_kinds);
    add_test("inflight/truncate", test_inflight_truncate);
    add_test("inflight/oldest-first", test_inflight_oldest_first);
    add_test("inflight/age", test_inflight_age);
    add_test("inflight/passed-on", test_inflight_passed_on);
    add_test("inflight/layers", test_inflight_layers);
    add_test("inflight/other", test_inflight_other);
    add_test("inflight/other-above", test_inflight_other_above);
    add_test("inflight/device", test_inflight_device);
    add_test("inflight/since", test_inflight_since);

    add_test("flush/all-nodes", test_flush_all_nodes);
    add_test("flush/late-waiter", test_flush_late_waiter);
    add_test("flush/first-error", test_flush_first_error);
    add_test("flush/late-error", test_flush_late_error);
    add_test("flush/late-success", test_flush_late_success);
    add_test("flush/late-error-then-success",
             test_flush_late_error_then_success);
    add_test("flush/error-before-release", test_flush_error_before_release);
    g_test_add_func("/timed-drain/flush/nothing", test_flush_nothing);

    add_test("track/serialising", test_track_serialising);

    return g_test_run();
}
