/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for switchovers at which no request is in flight
 *
 * A guest under TCG works on a slow disk, or on one that hangs, and is migrated
 * with the capability inflight-free-switchover.
 *
 * What failing looks like.  QEMU that does not know the capability fails at
 * setting it.  With SWITCHOVER_TEST_STOCK=1 it is left unset: "hit" then fails
 * because requests were in flight when the guest was stopped, and the cases
 * that need a window because there is none.
 *
 * Environment: as for switchover-test; SWITCHOVER_STOCK for the cases that
 * migrate to unpatched QEMU.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/scenario.h"

#define SUITE "inflight-free"
#define STOCK "SWITCHOVER_STOCK"

/* Of the disk, where a stopped guest must not wait for it */
#define LATENCY_MS 100

/*
 * Of the disk that keeps a window open: long enough to do something meanwhile,
 * and not yet what is taken for a hang.
 */
#define HOLDER_LATENCY_MS 800
#define WINDOW_MS 1000

/* Of the requests that keep a window open, one is sent this often */
#define HOLDER_INTERVAL_MS 100

/* A series of migrations */
#define TURNS 5
#define TURNS_FULL 50

/* While a series goes on, the disk stops now and then, for so long at most */
#define STUTTER_MS 60

/*
 * Hits
 */

static QDict *get_switchover(SwVM *vm)
{
    return sw_vm_migration(vm, "switchover");
}

static int64_t phase_us(QDict *switchover, const char *name)
{
    QListEntry *entry;
    int64_t sum_us = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(switchover, "phases"), entry) {
        QDict *phase = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(phase, "phase"), name)) {
            sum_us += qdict_get_int(phase, "duration-us");
        }
    }
    return sum_us;
}

/* The stopped guest waited for no request */
static void expect_hit(SwRig *rig)
{
    QDict *switchover = get_switchover(rig->src);
    QDict *quiesce = qdict_get_qdict(switchover, "quiesce");
    int64_t in_flight = qdict_get_int(switchover, "in-flight-at-stop");
    int64_t disks_ms = (phase_us(switchover, "drain") +
                        phase_us(switchover, "device-stop")) / 1000;
    int64_t window_ms = rig->c->quiesce_window_ms ?: 100;

    g_test_message("%d in flight when the guest was stopped; it waited %d ms "
                   "for its disks; longest hold %d ms", (int)in_flight,
                   (int)disks_ms, (int)qdict_get_int(quiesce, "max-ms"));
    SW_CHECK(in_flight == 0, "%d requests were in flight", (int)in_flight);
    g_assert_cmpint(qdict_get_int(quiesce, "hits"), >=, 1);
    SW_CHECK_SOON(disks_ms, LATENCY_MS / 2, "the drain");
    /* A timer ends it, on a host with other things to do */
    SW_CHECK_SOON(qdict_get_int(quiesce, "max-ms"), window_ms + 100,
                  "a window");
    qobject_unref(switchover);
}

static void expect_watched(SwRig *rig, bool watched)
{
    QDict *switchover = get_switchover(rig->src);
    QDict *quiesce = qdict_get_qdict(switchover, "quiesce");
    QList *list = qdict_get_qlist(quiesce, "watched");
    QDict *first;

    g_assert_cmpuint(qlist_size(list), ==, watched ? 1 : 0);
    if (watched) {
        first = qobject_to(QDict, qlist_peek(list));
        g_assert_cmpstr(qdict_get_str(first, "device"), ==, "dev0");
        g_assert_cmpint(strlen(qdict_get_str(first, "reason")), >, 0);
    }
    qobject_unref(switchover);
}

static void end_hits(SwRig *rig)
{
    sw_expect_completed(rig);
    expect_hit(rig);
    expect_watched(rig, false);
}

/* Nothing can be held: whether there is a hit is chance */
static void end_watched(SwRig *rig)
{
    sw_expect_completed(rig);
    expect_watched(rig, true);
}

/* With jobs or exports that would not let the disk go */
static void end_hits_in_company(SwRig *rig)
{
    sw_expect_completed(rig);
    expect_hit(rig);
}

/*
 * Windows that something happens in
 */

static bool in_phase(SwVM *vm, const char *phase)
{
    QDict *switchover = get_switchover(vm);
    bool is_in = g_str_equal(qdict_get_str(switchover, "phase"), phase);

    qobject_unref(switchover);
    return is_in;
}

/* A request which is not the guest's, on a disk that the guest does not use */
static void send_holder(SwRig *rig)
{
    g_free(sw_hmp(rig->src->mon, "qemu-io -d "
                  "/machine/peripheral/dev1/virtio-backend "
                  "\"aio_read 0 4k\""));
}

/* In a slow migration; returns in a window that stays open for a while */
static void hasten_to_window(SwRig *rig)
{
    int64_t sent_us, start_us;

    send_holder(rig);
    sent_us = sw_now_us();
    sw_rig_hasten(rig);
    start_us = sw_now_us();
    while (!in_phase(rig->src, "quiesce")) {
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS, "no window opened");
        if (sw_since_ms(sent_us) >= HOLDER_INTERVAL_MS) {
            send_holder(rig);
            sent_us = sw_now_us();
        }
        g_usleep(2000);
    }
}

static void open_window(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    hasten_to_window(rig);
}

static void expect_still_open(SwRig *rig, const char *what)
{
    SW_CHECK(in_phase(rig->src, "quiesce"), "the window ended before %s", what);
}

static void cancel(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(rig->src->mon, "cancelled");
}

static void end_cancelled_in_window(SwRig *rig)
{
    open_window(rig);
    expect_still_open(rig, "migrate_cancel");
    cancel(rig);
    sw_expect_as_before(rig);
}

/* A machine that is very slow may have come to its end meanwhile */
static bool too_slow_to_cancel(SwRig *rig)
{
    return sw_patience() > 1 && sw_status_seen(rig->src->mon, "device");
}

/*
 * After @command nothing is in flight any more, so the switchover is near: do
 * not let it come before migrate_cancel.
 */
static bool cancel_after(SwRig *rig, const char *command)
{
    QDict *rsp;

    expect_still_open(rig, command);
    rsp = sw_qmp_pair_try(rig->src->mon, command, "migrate_cancel");
    g_assert_true(rsp && qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
    if (too_slow_to_cancel(rig)) {
        g_test_skip("the window was over before migrate_cancel");
        return false;
    }
    sw_status_wait(rig->src->mon, "cancelled");
    return true;
}

static void end_stopped_in_window(SwRig *rig)
{
    open_window(rig);
    if (!cancel_after(rig, "stop")) {
        return;
    }
    g_assert_true(sw_vm_in_state(rig->src, "paused"));
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    sw_expect_as_before(rig);
}

/*
 * The hold is still on when the guest goes on.  As above; but a machine that is
 * very slow may have come to the switchover, and the guest stays paused.
 */
static void end_paused_in_window(SwRig *rig)
{
    QDict *rsp;

    open_window(rig);
    expect_still_open(rig, "stop");
    rsp = sw_qmp_pair_try(rig->src->mon, "stop", "cont");
    g_assert_nonnull(rsp);
    rig->paused = qdict_haskey(rsp, "error");
    rig->paused_beats = sw_guest_beats(rig->src->guest);
    SW_CHECK(!rig->paused || sw_patience() > 1, "cont was refused");
    qobject_unref(rsp);
    sw_expect_completed(rig);
}

static void end_stopped_completes(SwRig *rig)
{
    open_window(rig);
    expect_still_open(rig, "stop");
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    rig->paused = true;
    rig->paused_beats = sw_guest_beats(rig->src->guest);
    sw_expect_completed(rig);
}

static bool is_in_window(void *opaque)
{
    return in_phase(opaque, "quiesce");
}

static bool has_io_error(void *opaque)
{
    return sw_vm_in_state(opaque, "io-error");
}

/*
 * What was in flight fails, and migrates as what is to be done again; what is
 * held migrates in the virtqueue.  The window is kept open until the guest has
 * been stopped.
 */
static void end_io_error_in_window(SwRig *rig)
{
    sw_wait_until(is_in_window, rig->src, SW_WAIT_MS, "a window");
    send_holder(rig);
    sw_disk_fail(rig->disk[0]);
    sw_event_wait(rig->src->mon, "BLOCK_IO_ERROR", 0, NULL);
    sw_disk_mend(rig->disk[0]);

    sw_status_wait(rig->src->mon, "completed");
    sw_wait_until(has_io_error, rig->dst, SW_WAIT_MS,
                  "the destination to be stopped by the error");
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'cont' }");
    sw_expect_guest_working(rig->dst->guest);
}

static void end_reset_in_window(SwRig *rig)
{
    open_window(rig);
    sw_guest_expect_reboot(rig->src->guest);
    if (!cancel_after(rig, "system_reset")) {
        return;
    }
    sw_guest_wait_ready(rig->src->guest, 1);
    sw_expect_as_before(rig);
}

/*
 * The window has a reference to the job: it is given back before QEMU cancels
 * all jobs.  If it is not, QEMU cancels the job again after its end, and dies
 * by SIGSEGV.
 */
static void end_quit_in_window(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-add', 'arguments': {"
              " 'driver': 'null-co', 'node-name': 'null',"
              " 'size': %d, 'read-zeroes': true } }",
              SW_DISK_MIB * 1024 * 1024);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-backup', 'arguments': {"
              " 'job-id': 'job', 'device': 'disk0', 'target': 'null',"
              " 'sync': 'none' } }");
    open_window(rig);
    expect_still_open(rig, "quit");
    qobject_unref(sw_qmp_try(rig->src->mon, "{ 'execute': 'quit' }"));
    sw_vm_wait_exit(rig->src, EXIT_SUCCESS);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
}

static void plug(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-add', 'arguments': {"
              " 'driver': 'null-co', 'node-name': 'plugged',"
              " 'size': 1048576, 'read-zeroes': true } }");
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'device_add', 'arguments': {"
              " 'driver': 'virtio-blk-pci', 'id': 'plugged', 'bus': 'rp0',"
              " 'drive': 'plugged' } }");
}

static void unplug(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'device_del',"
              " 'arguments': { 'id': 'plugged' } }");
}

/*
 * QEMU refuses device_del while it migrates.  So the guest is told before,
 * while it is stopped, and gets to it at about the time of the window.
 */
static void end_unplugged_in_window(SwRig *rig)
{
    plug(rig);
    sw_guest_wait_disk(rig->src->guest, "vdc", true);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    unplug(rig);
    sw_rig_migrate_slowly(rig);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    hasten_to_window(rig);
    cancel(rig);
    sw_event_wait(rig->src->mon, "DEVICE_DELETED", 0, NULL);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-del',"
              " 'arguments': { 'node-name': 'plugged' } }");
    sw_expect_as_before(rig);
}

/*
 * A series
 */

static void stutter(SwRig *rig)
{
    sw_disk_stick(rig->victim);
    g_usleep(g_random_int_range(0, STUTTER_MS * 1000));
    sw_disk_release(rig->victim);
    g_usleep(g_random_int_range(0, STUTTER_MS * 1000));
}

static void complete_with_stutter(SwRig *rig)
{
    int64_t start_us = sw_now_us();

    while (!sw_status_seen(rig->src->mon, "completed")) {
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS, "it does not complete");
        stutter(rig);
    }
}

/*
 * The guest's operations so far.  No worker has anything left to do, or to
 * count, when it has verified its blocks.  That is done twice, and adds @reads
 * each time.
 */
static int64_t verify_and_count(SwRig *rig, int64_t *reads)
{
    int64_t ops;

    sw_rig_idle(rig);
    g_free(sw_guest_cmd(rig->src->guest, "verify"));
    ops = sw_guest_ops(rig->src->guest);
    g_free(sw_guest_cmd(rig->src->guest, "verify"));
    *reads = sw_guest_ops(rig->src->guest) - ops;
    return ops + *reads;
}

/* Every block that the guest wrote, the disk was told to write exactly once */
static void end_series(SwRig *rig)
{
    unsigned turns = g_test_slow() ? TURNS_FULL : TURNS;
    unsigned i, hits = 0;
    int64_t ops, written, reads;

    ops = verify_and_count(rig, &reads);
    written = sw_disk_bytes(rig->disk[0], SW_KIND_WRITE);
    g_free(sw_guest_cmd(rig->src->guest, "mode write"));

    for (i = 0; i < turns; i++) {
        QDict *switchover;

        sw_watchdog_start();
        sw_rig_migrate(rig);
        complete_with_stutter(rig);
        sw_expect_moved(rig);
        switchover = get_switchover(rig->src);
        hits += qdict_get_int(qdict_get_qdict(switchover, "quiesce"), "hits");
        qobject_unref(switchover);
        sw_rig_turn(rig);
    }

    ops = verify_and_count(rig, &reads) - ops;
    ops -= 2 * reads;
    written = sw_disk_bytes(rig->disk[0], SW_KIND_WRITE) - written;
    g_test_message("%u migrations, %u of them with nothing in flight; the "
                   "guest wrote %" PRId64 " blocks", turns, hits, ops);
    g_assert_cmpint(hits, >, 0);
    g_assert_cmpint(ops, >, 0);
    g_assert_cmpint(written, ==, ops * SW_GUEST_BLOCK);
}

/*
 * Other QEMUs
 */

static void end_refused_by_old(SwRig *rig)
{
    /* Or the source would not hear that the destination gave up */
    sw_vm_set_capability(rig->src, "return-path");
    open_window(rig);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

#define INFLIGHT_FREE                           \
    .inflight_free = true,                      \
    .healthy = true,                            \
    .driver = &sw_nbd,                          \
    .kind = SW_KIND_WRITE,                      \
    .quiesce_window_ms = WINDOW_MS

#define SLOW_DISK                               \
    INFLIGHT_FREE,                              \
    .latency_ms = { LATENCY_MS }

#define HOLDER                                  \
    INFLIGHT_FREE,                              \
    .disks = 2,                                 \
    .latency_ms = { 0, HOLDER_LATENCY_MS }

/* Not healthy: the disk hangs when the migration begins */
#define HANGING_DISK                            \
    .inflight_free = true,                      \
    .driver = &sw_nbd

static const SwCase cases[] = {
    {
        .path = "hit/post-copy",
        SLOW_DISK,
        .device = &sw_virtio_blk_vq_mapping,
        .postcopy = true,
        .end = end_hits,
    }, {
        .path = "hit/depth",
        SLOW_DISK,
        .device = &sw_virtio_blk_iothread,
        .depth = 8,
        .quiesce_queue_depth = 2,
        .end = end_hits,
    }, {
        .path = "hit/libvirt",
        .full = true,
        .inflight_free = true,
        .healthy = true,
        .device = &sw_virtio_blk,
        .driver = &sw_qcow2_nbd,
        .kind = SW_KIND_WRITE,
        .latency_ms = { LATENCY_MS },
        .quiesce_window_ms = WINDOW_MS,
        .libvirt = true,
        .end = end_hits,
    }, {
        /* The job has what the guest wrote before to copy */
        .path = "hit/mirror",
        SLOW_DISK,
        .device = &sw_virtio_blk_iothread,
        .pause_before_switchover = true,
        .setup = sw_setup_mirror,
        .at_pre_switchover = sw_finish_mirror,
        .end = end_hits_in_company,
    }, {
        .path = "hit/export",
        SLOW_DISK,
        .device = &sw_virtio_blk,
        .disks = 2,
        .pause_before_switchover = true,
        .setup = sw_setup_export,
        .at_pre_switchover = sw_finish_export,
        .end = end_hits_in_company,
    }, {
        .path = "window/cancel",
        HOLDER,
        .device = &sw_virtio_blk_iothread,
        .end = end_cancelled_in_window,
    }, {
        .path = "window/stop/iothread",
        .full = true,
        HOLDER,
        .device = &sw_virtio_blk_iothread,
        .end = end_stopped_in_window,
    }, {
        .path = "window/stop/no-ioeventfd",
        HOLDER,
        .device = &sw_virtio_blk_no_ioeventfd,
        .end = end_stopped_in_window,
    }, {
        .path = "window/stop-cont/iothread",
        HOLDER,
        .device = &sw_virtio_blk_iothread,
        .end = end_paused_in_window,
    }, {
        .path = "window/stop-cont/no-ioeventfd",
        .full = true,
        HOLDER,
        .device = &sw_virtio_blk_no_ioeventfd,
        .end = end_paused_in_window,
    }, {
        .path = "window/stop-migrate/no-ioeventfd",
        HOLDER,
        .device = &sw_virtio_blk_no_ioeventfd,
        .end = end_stopped_completes,
    }, {
        .path = "window/reset/virtio-blk",
        HOLDER,
        .device = &sw_virtio_blk_iothread,
        .end = end_reset_in_window,
    }, {
        .path = "window/unplug",
        HOLDER,
        .device = &sw_virtio_blk_port,
        .end = end_unplugged_in_window,
    }, {
        .path = "window/quit",
        HOLDER,
        .device = &sw_virtio_blk_iothread,
        .end = end_quit_in_window,
    }, {
        .path = "window/io-error",
        INFLIGHT_FREE,
        .device = &sw_virtio_blk_stop,
        .disks = 2,
        .latency_ms = { 4 * LATENCY_MS, HOLDER_LATENCY_MS },
        .end = end_io_error_in_window,
    }, {
        .path = "series/virtio-blk",
        INFLIGHT_FREE,
        .device = &sw_virtio_blk_4_queues,
        .depth = 32,
        .cpus = 4,
        .drain_timeout_ms = 1000,
        .end = end_series,
    }, {
        .path = "series/virtio-scsi",
        .full = true,
        INFLIGHT_FREE,
        .device = &sw_virtio_scsi_4_queues,
        .depth = 32,
        .cpus = 4,
        .drain_timeout_ms = 1000,
        .end = end_series,
    }, {
        /* Whatever hangs, drain-timeout is the net */
        .path = "hang/retry",
        HANGING_DISK,
        .device = &sw_virtio_blk_iothread,
        .kind = SW_KIND_WRITE,
        .timeouts = 2,
        .end = sw_end_completes,
    }, {
        .path = "hang/flush",
        .full = true,
        HANGING_DISK,
        .device = &sw_virtio_blk,
        .kind = SW_KIND_WRITE,
        .idle = true,
        .end = sw_end_completes,
    }, {
        .path = "hang/no-ioeventfd",
        .full = true,
        HANGING_DISK,
        .device = &sw_virtio_blk_no_ioeventfd,
        .kind = SW_KIND_READ,
        .end = sw_end_completes,
    }, {
        .path = "hang/postcopy",
        .full = true,
        HANGING_DISK,
        .device = &sw_virtio_scsi_iothread,
        .kind = SW_KIND_WRITE,
        .postcopy = true,
        .end = sw_end_completes,
    }, {
        .path = "hang/fail",
        .full = true,
        HANGING_DISK,
        .device = &sw_virtio_scsi,
        .kind = SW_KIND_WRITE,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        .path = "hang/cancel",
        .full = true,
        HANGING_DISK,
        .device = &sw_virtio_blk_iothread,
        .kind = SW_KIND_ANY,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "to-stock/ioeventfd",
        SLOW_DISK,
        .dst_binary = STOCK,
        .machine = "pc-q35-10.0",
        .device = &sw_virtio_blk_iothread,
        .end = end_hits,
    }, {
        /*
         * Nobody there would look at the virtqueue, so it must not accept
         * it.  Without the subsection: the guest's request never completes.
         */
        .path = "to-stock/no-ioeventfd",
        HOLDER,
        .dst_binary = STOCK,
        .machine = "pc-q35-10.0",
        .device = &sw_virtio_blk_no_ioeventfd,
        .depth = 32,
        .end = end_refused_by_old,
    },
};

static void run_case(const void *opaque)
{
    const SwCase *c = opaque;
    SwRig *rig = sw_rig_new(c);

    if (!rig) {
        return;
    }
    if (!c->healthy) {
        sw_rig_stick(rig);
    }
    if (!c->healthy || c->latency_ms[0]) {
        sw_rig_migrate(rig);
    }
    c->end(rig);
    sw_rig_free(rig);
}

static bool only_watched(const SwDevice *device)
{
    return device == &sw_ide || device == &sw_ahci;
}

/* Every device; the smoke set takes those that differ in who pops requests */
static void add_hits(void)
{
    static GPtrArray *made;
    const SwDevice *const *device;

    made = g_ptr_array_new();
    for (device = sw_devices; *device; device++) {
        SwCase *c = g_new0(SwCase, 1);

        *c = (SwCase) {
            .path = g_strdup_printf("hit/%s", (*device)->name),
            .full = *device == &sw_virtio_blk || *device == &sw_virtio_scsi ||
                    *device == &sw_ahci,
            SLOW_DISK,
            .device = *device,
            .end = only_watched(*device) ? end_watched : end_hits,
        };
        g_ptr_array_add(made, c);
        sw_add_case(SUITE, c, run_case);
    }
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    add_hits();
    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SUITE, &cases[i], run_case);
    }

    return g_test_run();
}
