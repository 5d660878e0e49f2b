/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that begins by itself, after some passes
 *
 * The guest goes round a buffer faster than the migration: pre-copy alone would
 * never end, and nobody asks for post-copy.
 *
 * What failing looks like: QEMU that does not know the parameter fails at
 * setting it.  With SWITCHOVER_TEST_STOCK=1 it is left unset, and nothing comes
 * of the migration: "no MIGRATION_SOURCE_STOPPED ... within 60000 ms".
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/postcopy-ready-tests.h"

/*
 * Per second: a pass of the buffer takes half a second, within which the guest
 * writes all of it again; and what may be left for the switchover is little.
 */
#define BANDWIDTH (64 * MiB)
#define DOWNTIME_MS 20

/* Per second: less than a page in 100 ms, which is what QEMU counts by */
#define TRICKLE (1 * KiB)
#define REQUESTS_PER_S 100

/* Somewhat less than this is one pass of all memory */
#define FULL_BYTES (256 * MiB)

static void set_passes(SwRig *rig, unsigned passes)
{
    if (!sw_stock_mode()) {
        sw_vm_set_parameter(rig->src, "postcopy-after-passes", passes);
    }
}

static void migrate(SwRig *rig)
{
    sw_rig_prepare(rig);
    sw_vm_set_parameter(rig->src, "max-bandwidth", BANDWIDTH);
    sw_vm_set_parameter(rig->src, "downtime-limit", DOWNTIME_MS);
    sw_rig_start(rig);
}

static QDict *wait_stopped(SwRig *rig)
{
    return qdict_get_qdict(sw_event_wait(rig->src->mon,
                                         "MIGRATION_SOURCE_STOPPED", 0, NULL),
                           "data");
}

/*
 * The pass that would be next was begun, by finding out what the guest wrote
 * during the last one: so there is that to be sent, and not what never changed.
 */
static void expect_passes(SwRig *rig, unsigned passes)
{
    QDict *data = wait_stopped(rig);
    int64_t pass = qdict_get_int(data, "pass");

    g_test_message("after %u passes: pass %d, %d KiB remaining", passes,
                   (int)pass, (int)(qdict_get_int(data, "remaining") / KiB));
    g_assert_cmpint(pass, ==, passes + 1);
    g_assert_cmpint(qdict_get_int(data, "remaining"), <, FULL_BYTES / 2);
    g_assert_cmpint(qdict_get_int(data, "remaining"), >, 0);
}

static void end_after(SwRig *rig, unsigned passes)
{
    set_passes(rig, passes);
    migrate(rig);
    expect_passes(rig, passes);
    sw_expect_completed(rig);
}

static void end_after_1(SwRig *rig)
{
    end_after(rig, 1);
}

static void end_after_2(SwRig *rig)
{
    end_after(rig, 2);
}

static void end_after_3(SwRig *rig)
{
    end_after(rig, 3);
}

static void end_held(SwRig *rig)
{
    set_passes(rig, 1);
    migrate(rig);
    sw_hold_expect(rig);
    expect_passes(rig, 1);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}

/* Little is written, and in a shorter pass less */
static void end_converges(SwRig *rig)
{
    set_passes(rig, 4);
    sw_rig_idle(rig);
    migrate(rig);
    sw_status_wait(rig->src->mon, "completed");
    g_assert_false(sw_status_seen(rig->src->mon, "postcopy-active"));
    g_assert_false(sw_status_seen(rig->src->mon, "postcopy-ready"));
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_SOURCE_STOPPED"),
                     ==, 1);
    sw_vm_wait_state(rig->dst, "running");
    sw_expect_guest_working(rig->dst->guest);
}

/* The same migration may be told to begin before */
static void end_by_order(SwRig *rig)
{
    set_passes(rig, 1000);
    sw_rig_migrate(rig);
    g_assert_cmpint(qdict_get_int(wait_stopped(rig), "pass"), <, 1000);
    sw_expect_completed(rig);
}

/*
 * Pages that the destination asks for do not wait for the next 100 ms if the
 * bandwidth of these is used up, which here is after each page.  Unpatched QEMU
 * sends ten in a second to each CPU of the guest, with what follows them in
 * memory: "n requests per second" is well below the limit.
 */
static void end_trickle(SwRig *rig)
{
    g_autofree char *status = NULL;
    int64_t start_us, requests;

    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", TRICKLE);
    sw_rig_migrate(rig);
    sw_vm_wait_state(rig->dst, "running");
    start_us = sw_now_us();
    requests = sw_hold_requests(rig);
    sw_expect_guest_working(rig->dst->guest);
    requests = (sw_hold_requests(rig) - requests) * 1000 /
               sw_since_ms(start_us);
    g_test_message("%d requests per second", (int)requests);
    g_assert_cmpint(requests, >, REQUESTS_PER_S);
    status = sw_migration_status(rig->src);
    g_assert_cmpstr(status, ==, "postcopy-active");
    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", 0);
    sw_expect_completed(rig);
}

/* A pass of an earlier migration does not count */
static void end_anew(SwRig *rig)
{
    set_passes(rig, 2);
    sw_rig_migrate_slowly(rig);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(rig->src->mon, "cancelled");
    sw_expect_on_source(rig);
    sw_rig_renew_destination(rig);
    migrate(rig);
    expect_passes(rig, 2);
    sw_expect_completed(rig);
}

#define PASSES                                  \
    SW_READY_BASE,                              \
    .driver = &sw_nbd,                          \
    .dirty_mib_per_s = 100,                     \
    .dirty_mib = 32

static const SwCase cases[] = {
    {
        .path = "passes/1",
        .full = true,
        PASSES,
        .end = end_after_1,
    }, {
        .path = "passes/2",
        .full = true,
        PASSES,
        .end = end_after_2,
    }, {
        .path = "passes/3",
        PASSES,
        .end = end_after_3,
    }, {
        .path = "passes/held",
        .full = true,
        PASSES,
        .ready = SW_BOTH,
        .end = end_held,
    }, {
        .path = "passes/preempt",
        .full = true,
        PASSES,
        .capabilities = { "postcopy-preempt" },
        .end = end_after_1,
    }, {
        .path = "passes/converges",
        SW_READY_BASE,
        .driver = &sw_nbd,
        .dirty_mib_per_s = 5,
        .dirty_mib = 32,
        .ready = SW_BOTH,
        .end = end_converges,
    }, {
        .path = "passes/by-order",
        .full = true,
        PASSES,
        .end = end_by_order,
    }, {
        .path = "passes/trickle",
        SW_READY_BASE,
        .driver = &sw_nbd,
        .dirty_mib_per_s = 5,
        .dirty_mib = 32,
        .end = end_trickle,
    }, {
        .path = "passes/anew",
        .full = true,
        PASSES,
        .end = end_anew,
    },
};

void sw_add_postcopy_passes_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SW_READY_SUITE, &cases[i], sw_run_ready_case);
    }
}
