/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for post-copy that is held, committed, or backed out of
 *
 * A guest under TCG works on a disk, and on memory that it verifies, and is
 * migrated with the capability postcopy-ready: the source stops it, the
 * destination loads it, and then both wait.
 *
 * Whatever becomes of it, the guest runs on the side that must have it, on that
 * side only, and finds in its memory and on its disk what it wrote.
 *
 * What failing looks like.  QEMU that does not know the capability fails at
 * setting it.  With SWITCHOVER_TEST_STOCK=1 it is left unset, and so are the
 * new parameters: post-copy then is over before anybody can say a word, and the
 * cases end in "migration is 'completed' instead of 'postcopy-ready'".  What
 * else a case notices is said where it is.
 *
 * Environment: as for switchover-test; SWITCHOVER_STOCK for the cases that
 * migrate to or from unpatched QEMU.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/postcopy-ready-tests.h"
#include "switchover/scenario.h"
#include "switchover/transport.h"

/* Long enough to look at all there is, short enough to wait for */
#define READY_TIMEOUT_MS 4000

/* That more than this was sent is no accident */
#define FLOW_BYTES (4 * MiB)

/* The disk hangs this long before it is certain that nobody answers */
#define FROZEN_MS 1500

/* MIGRATION_SOURCE_STOPPED comes within this, whatever hangs */
#define EVENT_LIMIT_MS 500

/* Holds in a row of one source */
#define HOLDS 10

/*
 * Commit
 */

static void end_continue(SwRig *rig)
{
    sw_hold(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}

static void end_cont(SwRig *rig)
{
    sw_hold(rig);
    sw_hold_cont(rig);
    sw_hold_expect_completed(rig);
}

/*
 * If the destination were told to send its word at once, memory would not move
 * before the commit: "waited ... for memory to be sent".
 */
static bool has_fallen(void *opaque)
{
    SwRig *rig = opaque;

    return sw_hold_remaining(rig) < rig->remaining - FLOW_BYTES;
}

static void end_memory_flows(SwRig *rig)
{
    g_autofree char *status = NULL;

    sw_hold_limited(rig);
    rig->remaining = sw_hold_remaining(rig);
    sw_wait_until(has_fallen, rig, SW_WAIT_MS, "memory to be sent");
    status = sw_migration_status(rig->src);
    g_assert_cmpstr(status, ==, "postcopy-ready");
    sw_hold_expect_nobody_runs(rig);

    sw_hold_unlimit(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}

/* The disk hangs, the switchover is tried again, and then post-copy is held */
static void end_retries(SwRig *rig)
{
    sw_rig_stick(rig);
    sw_rig_migrate(rig);
    sw_expect_timeouts(rig);
    sw_expect_alive(rig);
    sw_rig_release(rig);
    sw_status_wait(rig->src->mon, "postcopy-ready");
    sw_status_wait(rig->dst->mon, "postcopy-ready");
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_SOURCE_STOPPED"),
                     ==, 1 + sw_event_count(rig->src->mon,
                                            "MIGRATION_DRAIN_TIMEOUT"));
    sw_hold_expect_nobody_runs(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}

/*
 * Back
 */

static void end_cancel(SwRig *rig)
{
    sw_hold(rig);
    sw_cancel(rig);
    sw_hold_expect_as_before(rig, "cancelled", NULL);
}

/* The source sits in a write, which does not end by itself */
static void end_cancel_blocked(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_vm_freeze(rig->dst);
    sw_hold_wait_blocked(rig);
    sw_cancel(rig);
    sw_vm_thaw(rig->dst);
    sw_hold_expect_backed_out(rig, "cancelled", NULL);
}

static void set_ready_timeout(SwRig *rig)
{
    if (!sw_stock_mode()) {
        sw_vm_set_parameter(rig->src, "postcopy-ready-timeout",
                            READY_TIMEOUT_MS);
    }
}

/* Without the timeout: "migration is 'postcopy-ready' and not 'failed'" */
static void expect_timeout(SwRig *rig, QDict *since, const char *says)
{
    QDict *failed = sw_status_wait_event(rig->src->mon, "failed");
    int64_t took_ms = (sw_event_stamp_us(failed) - sw_event_stamp_us(since)) /
                      1000;

    g_test_message("given up after %d ms", (int)took_ms);
    /* The timer is set before the event, and counts whole milliseconds */
    g_assert_cmpint(took_ms, >=, READY_TIMEOUT_MS - 10);
    SW_CHECK_SOON(took_ms, READY_TIMEOUT_MS + SW_GAP_LIMIT_MS,
                  "postcopy-ready-timeout");
    sw_expect_migration_error(rig->src, "postcopy-ready-timeout");
    sw_expect_migration_error(rig->src, says);
}

/* It runs anew when the destination is ready */
static void end_timeout(SwRig *rig)
{
    QDict *ready;

    set_ready_timeout(rig);
    sw_hold(rig);
    ready = sw_status_wait_event(rig->src->mon, "postcopy-ready");
    expect_timeout(rig, ready, "not continued");
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

static void end_timeout_blocked(SwRig *rig)
{
    QDict *ready;

    set_ready_timeout(rig);
    sw_hold_limited(rig);
    ready = sw_status_wait_event(rig->src->mon, "postcopy-ready");
    sw_vm_freeze(rig->dst);
    sw_probe_mark(rig->src->probe);
    expect_timeout(rig, ready, "not continued");
    sw_probe_expect_answers(rig->src->probe);
    sw_vm_thaw(rig->dst);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/*
 * The destination does not get as far as to be ready.  It may need a page to
 * load a device, which nobody sends: with its threads not woken up, it stayed
 * for good ("QEMU death from signal 9").
 */
static void end_timeout_loading(SwRig *rig)
{
    QDict *stopped;

    set_ready_timeout(rig);
    sw_rig_migrate_slowly(rig);
    sw_vm_freeze(rig->dst);
    sw_probe_mark(rig->src->probe);
    sw_rig_hasten(rig);
    stopped = sw_event_wait(rig->src->mon, "MIGRATION_SOURCE_STOPPED", 0, NULL);
    expect_timeout(rig, stopped, "did not load");
    sw_probe_expect_answers(rig->src->probe);
    sw_vm_thaw(rig->dst);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

static void end_destination_dies(SwRig *rig)
{
    sw_hold(rig);
    sw_vm_kill(rig->dst);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/* It must not run, and must not wait for ever for somebody who is gone */
static void end_source_dies(SwRig *rig)
{
    sw_hold(rig);
    sw_vm_kill(rig->src);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    g_assert_cmpuint(sw_event_count(rig->dst->mon, "RESUME"), ==, 0);
}

/* Whatever the destination's user tries: it has no guest, and says why */
static void end_stays(SwRig *rig)
{
    g_autofree char *error = NULL;

    sw_hold(rig);
    sw_cancel(rig);
    sw_status_wait(rig->dst->mon, "failed");
    sw_expect_migration_error(rig->dst, "backed out of");
    error = sw_qmp_error(rig->dst->mon, "{ 'execute': 'cont' }");
    SW_CHECK(strstr(error, "runs at the source"), "cont says: %s", error);
    sw_hold_expect_backed_out(rig, "cancelled", NULL);
}

/*
 * The destination cannot load a device, and stays.  If its state goes while the
 * listen thread still reads, that ends by SIGSEGV or in an assertion.
 */
static void end_device_refused(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'device_add', 'arguments': {"
              " 'driver': 'virtio-rng-pci', 'id': 'rng', 'bus': 'rp0' } }");
    sw_rig_migrate(rig);
    sw_status_wait(rig->dst->mon, "failed");
    sw_expect_migration_error(rig->dst, "load of migration failed");
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/* The user's wish is older than the decision to go back */
static void end_stopped(SwRig *rig)
{
    sw_hold(rig);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    rig->paused = true;
    rig->paused_beats = sw_guest_beats(rig->src->guest);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_hold_expect_backed_out(rig, "cancelled", NULL);
}

/* The destination has memory of before the reset, so it must not go on */
static void end_reset(SwRig *rig)
{
    sw_hold(rig);
    sw_guest_expect_reboot(rig->src->guest);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'system_reset' }");
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_migration_error(rig->src, "reset");
    sw_guest_wait_ready(rig->src->guest, 1);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/*
 * One source, over and over.  With something left over from the one before, a
 * later one is not held, does not obey, or ignores its bandwidth.
 */
static void end_ten_holds(SwRig *rig)
{
    unsigned i;

    set_ready_timeout(rig);
    for (i = 0; i < HOLDS - 1; i++) {
        sw_watchdog_start();
        sw_hold_limited(rig);
        switch (i % 3) {
        case 0:
            sw_cancel(rig);
            sw_hold_expect_backed_out(rig, "cancelled", NULL);
            break;
        case 1:
            sw_vm_kill(rig->dst);
            sw_hold_expect_backed_out(rig, "failed", NULL);
            break;
        default:
            sw_hold_expect_backed_out(rig, "failed", "postcopy-ready-timeout");
        }
        sw_rig_renew_destination(rig);
    }
    sw_hold_unlimit(rig);
    sw_hold(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}

/*
 * MIGRATION_SOURCE_STOPPED
 *
 * The drain hangs with the main loop's lock held, so no monitor answers: the
 * event is there all the same.  Were it sent after the drain, like STOP, or by
 * the main loop: "... came after ... ms".
 */
static void end_event_before_drain(SwRig *rig)
{
    int64_t when_us, stop_us, late_ms;
    QDict *event;

    sw_rig_stick(rig);
    sw_rig_migrate(rig);
    event = sw_event_wait(rig->src->mon, "MIGRATION_SOURCE_STOPPED", 0,
                          &when_us);
    sw_probe_mark(rig->src->probe);
    late_ms = (when_us - qdict_get_int(qdict_get_qdict(event, "data"),
                                       "time-us")) / 1000;
    SW_CHECK_SOON(late_ms, EVENT_LIMIT_MS, "MIGRATION_SOURCE_STOPPED");
    sw_guest_wait_silence(rig->src->guest, FROZEN_MS);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "STOP"), ==, 0);
    g_assert_cmpint(sw_probe_worst_ms(rig->src->probe), >=, SW_ANSWER_LIMIT_MS);

    sw_rig_release(rig);
    sw_event_wait(rig->src->mon, "STOP", 0, &stop_us);
    g_test_message("MIGRATION_SOURCE_STOPPED after %d ms, STOP %d ms later",
                   (int)late_ms, (int)((stop_us - when_us) / 1000));
    g_assert_cmpint(stop_us - when_us, >, SW_ANSWER_LIMIT_MS * 1000);
    sw_expect_completed(rig);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_SOURCE_STOPPED"),
                     ==, 1);
}

static const SwCase cases[] = {
    {
        .path = "commit/continue",
        SW_READY_CASE,
        .end = end_continue,
    }, {
        .path = "commit/cont",
        SW_READY_CASE,
        .end = end_cont,
    }, {
        /* Paused on the destination, until its user says so */
        .path = "commit/paused/continue",
        .full = true,
        SW_READY_CASE,
        .dst_paused = true,
        .end = end_continue,
    }, {
        .path = "commit/paused/cont",
        .full = true,
        SW_READY_CASE,
        .dst_paused = true,
        .end = end_cont,
    }, {
        .path = "commit/memory-flows",
        SW_READY_CASE,
        .end = end_memory_flows,
    }, {
        .path = "commit/pause-before-switchover",
        .full = true,
        SW_READY_CASE,
        .pause_before_switchover = true,
        .end = end_continue,
    }, {
        .path = "commit/libvirt",
        SW_READY_CASE,
        .libvirt = true,
        .end = end_continue,
    }, {
        .path = "commit/inflight-free",
        .full = true,
        SW_READY_CASE,
        .inflight_free = true,
        .latency_ms = { 100 },
        .quiesce_window_ms = 1000,
        .end = end_continue,
    }, {
        .path = "commit/parallel-vmstate-change",
        .full = true,
        SW_READY_CASE,
        .capabilities = { "parallel-vmstate-change" },
        .end = end_continue,
    }, {
        .path = "commit/preempt",
        SW_READY_CASE,
        .capabilities = { "postcopy-preempt" },
        .end = end_continue,
    }, {
        .path = "commit/tls",
        SW_READY_CASE,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_continue,
    }, {
        .path = "commit/drain-timeout",
        .full = true,
        SW_READY_CASE,
        .end = end_retries,
    }, {
        .path = "back/cancel/ready",
        SW_READY_CASE,
        .end = end_cancel,
    }, {
        .path = "back/cancel/blocked",
        SW_READY_CASE,
        .end = end_cancel_blocked,
    }, {
        .path = "back/cancel/preempt",
        .full = true,
        SW_READY_CASE,
        .capabilities = { "postcopy-preempt" },
        .end = end_cancel,
    }, {
        .path = "back/cancel/preempt-blocked",
        .full = true,
        SW_READY_CASE,
        .capabilities = { "postcopy-preempt" },
        .end = end_cancel_blocked,
    }, {
        .path = "back/cancel/inflight-free",
        .full = true,
        SW_READY_CASE,
        .inflight_free = true,
        .latency_ms = { 100 },
        .quiesce_window_ms = 1000,
        .end = end_cancel,
    }, {
        .path = "back/cancel/parallel-vmstate-change",
        .full = true,
        SW_READY_CASE,
        .capabilities = { "parallel-vmstate-change" },
        .end = end_cancel,
    }, {
        .path = "back/cancel/tls",
        .full = true,
        SW_READY_CASE,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_cancel,
    }, {
        .path = "back/cancel/tls-blocked",
        .full = true,
        SW_READY_CASE,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_cancel_blocked,
    }, {
        .path = "back/timeout/ready",
        SW_READY_CASE,
        .end = end_timeout,
    }, {
        .path = "back/timeout/blocked",
        .full = true,
        SW_READY_CASE,
        .end = end_timeout_blocked,
    }, {
        .path = "back/timeout/loading",
        SW_READY_CASE,
        .end = end_timeout_loading,
    }, {
        .path = "back/destination-dies",
        SW_READY_CASE,
        .end = end_destination_dies,
    }, {
        .path = "back/source-dies",
        SW_READY_CASE,
        .end = end_source_dies,
    }, {
        .path = "back/exit-on-error-off",
        SW_READY_CASE,
        .dst_stays = true,
        .end = end_stays,
    }, {
        .path = "back/device-refused",
        SW_READY_WITH(&sw_virtio_blk_port),
        .driver = &sw_nbd,
        SW_READY_MEMORY,
        .ready = SW_BOTH,
        .dst_stays = true,
        .end = end_device_refused,
    }, {
        .path = "back/stop",
        .full = true,
        SW_READY_CASE,
        .off = true,
        .end = end_stopped,
    }, {
        .path = "back/reset",
        .full = true,
        SW_READY_CASE,
        .end = end_reset,
    }, {
        .path = "back/ten",
        .full = true,
        SW_READY_CASE,
        .end = end_ten_holds,
    }, {
        .path = "source-stopped/pre-copy",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .off = true,
        .end = end_event_before_drain,
    }, {
        .path = "source-stopped/post-copy",
        .full = true,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .off = true,
        .postcopy = true,
        .end = end_event_before_drain,
    },
};

void sw_run_ready_case(const void *opaque)
{
    const SwCase *c = opaque;
    SwRig *rig = sw_rig_new(c);

    if (rig) {
        c->end(rig);
        sw_rig_free(rig);
    }
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SW_READY_SUITE, &cases[i], sw_run_ready_case);
    }
    sw_add_postcopy_cut_tests();
    sw_add_postcopy_disk_tests();
    sw_add_postcopy_passes_tests();
    sw_add_postcopy_input_tests();

    return g_test_run();
}
