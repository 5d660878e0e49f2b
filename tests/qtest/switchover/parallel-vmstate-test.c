/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for VM state changes in which devices take part at once
 *
 * A guest under TCG works on vhost-user disks and network cards, whose backends
 * are slow or wrong on command, while it is stopped, continued and migrated
 * with the capability parallel-vmstate-change.
 *
 * What failing looks like.  QEMU that does not know the capability fails at
 * setting it.  With SWITCHOVER_TEST_STOCK=1 neither it nor a parameter of ours
 * is set, with any QEMU; what a test says then stands above it.
 *
 * Environment: as for switchover-test; SWITCHOVER_VHOST_SIM, the simulator;
 * SWITCHOVER_STOCK for the cases that migrate to or from unpatched QEMU.  In
 * the full set, real backends: QTEST_QEMU_STORAGE_DAEMON_BINARY, and
 * dpdk-testpmd if it is installed.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/parallel-expect.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-tests.h"

#define STOCK "SWITCHOVER_STOCK"

#define TURNS 5
#define STRESS_TURNS 30
#define STRESS_MOVES 10

/*
 * Long enough for all devices to be asked before the first one answers, on a
 * busy machine, too
 */
#define LATENCY_US 100000

/*
 * Stop and cont
 */

static void stop_and_cont(ParRig *rig, bool look)
{
    int64_t start_us = sw_now_us();

    sw_sim_do(rig->host[0].sim, "reset *");
    par_stop(rig);
    par_expect_stopped(rig);
    if (look) {
        par_expect_depth(rig);
        par_expect_together(rig, "GET_VRING_BASE", start_us);
    }
    par_cont(rig);
    par_expect_works(rig);
    par_expect_all_started(rig);
}

/* Without the capability: "nic0: 1 of 8 questions were outstanding at once" */
static void run_pipelined(ParRig *rig)
{
    unsigned turn;

    sw_sim_do(rig->host[0].sim, "latency * serial GET_VRING_BASE:%d",
              LATENCY_US);
    for (turn = 0; turn < TURNS; turn++) {
        stop_and_cont(rig, true);
    }
}

static void run_stress(ParRig *rig)
{
    unsigned turn;

    for (turn = 0; turn < STRESS_TURNS; turn++) {
        stop_and_cont(rig, false);
        sw_watchdog_start();
    }
}

/*
 * Migration
 */

/* Without the capability: "query-migrate does not list disk0" */
static void run_migrate(ParRig *rig)
{
    const ParCase *c = rig->c;

    par_start_destination(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    par_expect_stopped(rig);
    if (!c->src_binary) {
        par_expect_counted(rig->src, rig, !c->src_off);
    }
    if (!c->dst_binary) {
        par_expect_counted(rig->dst, rig, !c->dst_off);
    }
    par_turn(rig);
    par_expect_all_started(rig);
    par_move(rig);
    par_expect_all_started(rig);
}

/*
 * A mixture, in which something else may be slow: a disk of QEMU's own in an
 * IOThread, a card of QEMU's own, and a chardev that is no mere socket
 */

static void expect_reason(SwVM *vm, const char *device)
{
    QDict *dev = par_query_device(vm, device);

    SW_CHECK(dev, "query-migrate does not list the device with a log file");
    SW_CHECK(qdict_haskey(dev, "reason"), "no reason why it did not take part");
    g_assert_cmpint(qdict_get_int(dev, "messages"), ==, 0);
    g_test_message("%s", qdict_get_str(dev, "reason"));
    qobject_unref(dev);
}

/* Without the capability: "query-migrate does not list the device" */
static void run_mixed(ParRig *rig)
{
    unsigned turn;

    for (turn = 0; turn < TURNS; turn++) {
        stop_and_cont(rig, false);
    }
    par_start_destination(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    expect_reason(rig->src, rig->c->logged);
    par_turn(rig);
    par_expect_all_started(rig);
}

/*
 * Migrations there and back, with something wrong on the way.  Whatever comes
 * of one, no data are wrong, and the guest runs in one place.
 */

static void trouble_hold(ParRig *rig)
{
    sw_sim_do(par_sim(rig, "disk0"), "fault disk0 hold GET_VRING_BASE n=%d",
              g_random_int_range(1, 3));
}

static void trouble_slow(ParRig *rig)
{
    sw_sim_do(par_sim(rig, "disk0"), "latency * serial GET_VRING_BASE:%d",
              g_random_int_range(1, 200000));
}

static void trouble_close(ParRig *rig)
{
    sw_sim_do(par_sim(rig, "disk1"), "fault disk1 close ANY n=%d",
              g_random_int_range(1, 8));
}

static void trouble_start(ParRig *rig)
{
    sw_sim_do(par_dst_sim(rig, "disk0"), "fault disk0 close ANY n=%d",
              g_random_int_range(8, 40));
}

static void trouble_drop(ParRig *rig)
{
    g_usleep(g_random_int_range(0, 400000));
    sw_sim_do(par_sim(rig, "nic0"), "drop nic0");
}

static void trouble_kill(ParRig *rig)
{
    g_usleep(g_random_int_range(0, 400000));
    sw_vm_kill(rig->dst);
}

static void (*const troubles[])(ParRig *rig) = {
    trouble_hold, trouble_slow, trouble_close, trouble_start, trouble_drop,
    trouble_kill,
};

static bool is_over(void *opaque)
{
    SwVM *vm = opaque;

    return sw_status_seen(vm->mon, "completed") ||
           sw_status_seen(vm->mon, "failed") ||
           sw_status_seen(vm->mon, "cancelled");
}

static void undo_troubles(ParRig *rig)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(rig->host); i++) {
        sw_sim_do(rig->host[i].sim, "clear *");
        if (sw_sim_holds(rig->host[i].sim, "disk0")) {
            sw_sim_do(rig->host[i].sim, "resume disk0");
        }
        sw_sim_do(rig->host[i].sim, "latency * off");
    }
}

static void one_troubled_move(ParRig *rig, unsigned which)
{
    par_start_destination(rig);
    if (which < 4) {
        troubles[which](rig);
    }
    par_migrate(rig);
    if (which >= 4) {
        troubles[which](rig);
    }
    /* It may be that nothing happens until this is undone */
    g_usleep(g_random_int_range(0, 1000000));
    undo_troubles(rig);
    sw_wait_until(is_over, rig->src, SW_WAIT_MS, "the end of the migration");
    if (!rig->dst->killed && sw_status_seen(rig->src->mon, "completed")) {
        par_expect_completed(rig);
        par_turn(rig);
    } else if (sw_vm_in_state(rig->src, "running")) {
        sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    }
    par_expect_works(rig);
    sw_watchdog_start();
}

static void run_troubled_moves(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < STRESS_MOVES; n++) {
        unsigned which = n % ARRAY_SIZE(troubles);

        g_test_message("move %u, trouble %u", n, which);
        one_troubled_move(rig, which);
    }
}

static const ParCase cases[] = {
    {
        .path = "stop-cont/pipelined",
        .nics = 2, .queues = 4,
        .run = run_pipelined,
    }, {
        .path = "stop-cont/threads-1",
        .full = true,
        .nics = 2, .queues = 4, .threads = 1,
        .run = run_pipelined,
    }, {
        .path = "stop-cont/threads-16",
        .full = true,
        .nics = 2, .queues = 4, .threads = 16,
        .run = run_pipelined,
    }, {
        .path = "migrate/both",
        .nics = 1,
        .run = run_migrate,
    }, {
        .path = "migrate/drain-timeout",
        .full = true,
        .nics = 1, .drain_timeout_ms = 2000,
        .run = run_migrate,
    }, {
        .path = "migrate/source-only",
        .full = true,
        .nics = 1, .dst_off = true,
        .run = run_migrate,
    }, {
        .path = "migrate/destination-only",
        .full = true,
        .nics = 1, .src_off = true,
        .run = run_migrate,
    }, {
        .path = "migrate/neither",
        .full = true,
        .nics = 1, .src_off = true, .dst_off = true,
        .run = run_migrate,
    }, {
        .path = "migrate/to-stock",
        .full = true,
        .nics = 1, .dst_binary = STOCK, .dst_off = true,
        .run = run_migrate,
    }, {
        .path = "migrate/from-stock",
        .full = true,
        .nics = 1, .src_binary = STOCK, .src_off = true,
        .run = run_migrate,
    }, {
        .path = "mixed",
        .nics = 1, .own_devices = true, .logged = "disk1",
        .inflight_free = true, .drain_timeout_ms = 5000,
        .run = run_mixed,
    }, {
        .path = "stress/stop-cont",
        .full = true,
        .nics = 1,
        .run = run_stress,
    }, {
        .path = "stress/migrate",
        .full = true,
        .nics = 1, .reconnect_ms = 100, .drain_timeout_ms = 300,
        .run = run_troubled_moves,
    },
};

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        par_add_case(&cases[i]);
    }
    par_add_stuck_tests();
    par_add_fault_tests();
    par_add_mode_tests();
    par_add_backend_tests();
    par_add_input_tests();

    return g_test_run();
}
