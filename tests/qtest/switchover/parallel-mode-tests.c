/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: devices that change at once, together with
 * pause-before-switchover, and with post-copy
 *
 * In post-copy, cards have one pair of queues.  With more, QEMU 10.0 waits for
 * the answer to a memory table that it did not send: its destination hangs.
 */

#include "qemu/osdep.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/parallel-expect.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-stuck.h"
#include "switchover/parallel-tests.h"
#include "switchover/rig.h"

#define VICTIM "disk0"

/*
 * Long enough for all devices to be asked before the first one answers, on a
 * busy machine, too
 */
#define LATENCY_US 200000

/* More than what a loaded host may take from a guest that runs */
#define STOPPED_MS 300

/*
 * Pause before switchover
 */

static void be_slow(ParRig *rig)
{
    sw_sim_do(rig->host[rig->here].sim, "reset *");
    sw_sim_do(rig->host[rig->here].sim, "latency * serial GET_VRING_BASE:%d,"
              "SET_VRING_ENABLE:%d", LATENCY_US, LATENCY_US);
}

static void expect_stopped_at_once(ParRig *rig, int64_t since_us)
{
    par_expect_stopped(rig);
    par_expect_depth(rig);
    par_expect_together(rig, "GET_VRING_BASE", since_us);
}

static void be_quick(ParRig *rig)
{
    sw_sim_do(rig->host[rig->here].sim, "latency * off");
}

/* On a busy machine, a device may start later than the guest */
static void expect_started(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        par_wait_late(rig, par_device(rig->c, n), false);
    }
    par_expect_all_started(rig);
}

static void go_to_pre_switchover(ParRig *rig)
{
    int64_t start_us = sw_now_us();

    par_start_destination(rig);
    be_slow(rig);
    par_migrate(rig);
    par_expect_pre_switchover(rig);
    sw_guest_wait_silence(rig->src->guest, STOPPED_MS);
    expect_stopped_at_once(rig, start_us);
}

/* Without the capability: "nic0: 1 of 4 questions were outstanding at once" */
static void run_continue(ParRig *rig)
{
    go_to_pre_switchover(rig);
    par_expect_completed(rig);
    par_turn(rig);
    expect_started(rig);
}

/*
 * Devices start again.  Without the capability: as above; and if that is not
 * looked at, "a device was asked 40145 us after another one was done".
 */
static void run_cancel(ParRig *rig)
{
    int64_t start_us;

    go_to_pre_switchover(rig);
    start_us = sw_now_us();
    par_cancel(rig);
    par_expect_works(rig);
    expect_started(rig);
    par_expect_together(rig, "SET_VRING_ENABLE", start_us);
    be_quick(rig);
    par_move(rig);
}

/* Without the capability: cancelled, but the guest waits for the backend */
static void run_cancel_late(ParRig *rig)
{
    go_to_pre_switchover(rig);
    be_quick(rig);
    par_stick(rig);
    sw_probe_mark(rig->src->probe);
    par_cancel(rig);
    par_expect_alive(rig);
    par_release(rig);
    par_expect_works(rig);
    par_move(rig);
}

/* The connection is closed while the guest is stopped */
static void run_dropped_cancel(ParRig *rig)
{
    go_to_pre_switchover(rig);
    be_quick(rig);
    sw_sim_do(par_sim(rig, VICTIM), "drop " VICTIM);
    par_cancel(rig);
    par_expect_works(rig);
    par_move(rig);
}

static void run_dropped_continue(ParRig *rig)
{
    go_to_pre_switchover(rig);
    be_quick(rig);
    sw_sim_do(par_sim(rig, VICTIM), "drop " VICTIM);
    par_expect_completed(rig);
    par_turn(rig);
    par_move(rig);
}

/*
 * Post-copy
 */

/*
 * Without the capability: "nic0: 1 of 2 questions were outstanding at once".
 * If the end of post-copy is said by its own thread, as in QEMU 10.0, while the
 * main thread starts devices, the destination ends with "Assertion
 * `bql_locked()' failed", or takes one's answer for the other's.
 */
static void run_postcopy(ParRig *rig)
{
    int64_t start_us = sw_now_us();

    par_start_destination(rig);
    be_slow(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    expect_stopped_at_once(rig, start_us);
    par_expect_counted(rig->src, rig, true);
    par_expect_counted(rig->dst, rig, true);
    be_quick(rig);
    par_turn(rig);
    expect_started(rig);
    par_move(rig);
}

/* What is looked at as the source is the destination from now on, and back */
static void swap_sides(ParRig *rig)
{
    SwVM *vm = rig->src;

    rig->src = rig->dst;
    rig->dst = vm;
    rig->here = !rig->here;
}

/* What was late at the destination, which we look at, is not any more */
static void complete_from_destination(ParRig *rig)
{
    swap_sides(rig);
    par_expect_completed(rig);
    par_turn(rig);
    par_move(rig);
}

/*
 * The destination's backend does not answer when the guest begins to run there.
 * Post-copy ends when it does.  Without the capability: "waited 60000 ms for
 * the guest: its heartbeat".
 */
static void run_postcopy_late(ParRig *rig)
{
    par_start_destination(rig);
    sw_sim_do(par_dst_sim(rig, VICTIM), "fault " VICTIM " hold %s",
              rig->c->fault);
    par_migrate(rig);
    sw_guest_wait_beats(rig->dst->guest, 20);
    swap_sides(rig);
    sw_probe_mark(rig->src->probe);
    par_expect_alive(rig);
    g_assert_true(par_is_late(rig, VICTIM));
    g_assert_false(sw_status_seen(rig->src->mon, "completed"));
    par_release(rig);
    complete_from_destination(rig);
}

/* To the end of post-copy, where @device does not answer */
static void migrate_to_late_end(ParRig *rig, const char *device)
{
    par_start_destination(rig);
    sw_sim_do(par_dst_sim(rig, device), "fault %s hold POSTCOPY_END", device);
    par_migrate(rig);
    sw_sim_wait_held(par_dst_sim(rig, device), device);
    swap_sides(rig);
}

/*
 * The destination's backend does not answer when it is told that post-copy is
 * over.  If the BQL is held meanwhile: "the guest is silent", and so is the
 * monitor.
 */
static void run_postcopy_end_late(ParRig *rig)
{
    migrate_to_late_end(rig, VICTIM);
    sw_probe_mark(rig->src->probe);
    par_expect_alive(rig);
    g_assert_false(sw_status_seen(rig->src->mon, "completed"));
    par_release(rig);
    complete_from_destination(rig);
}

/*
 * While one has not answered, the connection of the next one is closed.  If
 * whoever waits has not let go of the list of devices, which is in the reverse
 * order: the destination uses memory that was freed.  With AddressSanitizer it
 * dies, without it may have luck.
 */
static void run_postcopy_end_dropped(ParRig *rig)
{
    migrate_to_late_end(rig, "disk1");
    sw_sim_drop(par_sim(rig, VICTIM), VICTIM);
    sw_sim_do(par_sim(rig, "disk1"), "resume disk1");
    complete_from_destination(rig);
}

#define PAUSE .nics = 1, .pause_before_switchover = true

#define POSTCOPY .nics = 1, .queues = 1, .postcopy = true

static const ParCase cases[] = {
    { .path = "pause/continue", PAUSE, .run = run_continue },
    { .path = "pause/cancel", PAUSE, .full = true, .run = run_cancel },
    { .path = "pause/cancel-late", PAUSE, .full = true,
      .fault = "SET_VRING_ENABLE", .run = run_cancel_late },
    { .path = "pause/dropped-cancel", PAUSE, .reconnect_ms = 100, .full = true,
      .run = run_dropped_cancel },
    { .path = "pause/dropped-continue", PAUSE, .reconnect_ms = 100,
      .full = true, .run = run_dropped_continue },
    { .path = "pause/stuck-retry", PAUSE, .drain_timeout_ms = 500,
      .full = true, .run = par_run_stuck_retry },
    { .path = "pause/stuck-cancel", PAUSE, .drain_timeout_ms = 500,
      .full = true, .run = par_run_stuck_cancel },
    { .path = "postcopy/both", POSTCOPY, .run = run_postcopy },
    { .path = "postcopy/pause", POSTCOPY, .pause_before_switchover = true,
      .full = true, .run = run_postcopy },
    { .path = "postcopy/mixed", POSTCOPY, .own_devices = true,
      .drain_timeout_ms = 5000, .full = true, .run = run_postcopy },
    { .path = "postcopy/stuck-retry", POSTCOPY, .drain_timeout_ms = 500,
      .full = true, .run = par_run_stuck_retry },
    { .path = "postcopy/stuck-cancel", POSTCOPY, .drain_timeout_ms = 500,
      .full = true, .run = par_run_stuck_cancel },
    { .path = "postcopy/start-late", POSTCOPY, .drain_timeout_ms = 500,
      .fault = "SET_VRING_ENABLE", .full = true, .run = run_postcopy_late },
    { .path = "postcopy/end-late", POSTCOPY, .full = true,
      .run = run_postcopy_end_late },
    { .path = "postcopy/end-late-off", POSTCOPY, .dst_off = true,
      .run = run_postcopy_end_late },
    { .path = "postcopy/end-dropped", POSTCOPY, .reconnect_ms = 100,
      .full = true, .run = run_postcopy_end_dropped },
};

/*
 * No device that could take part.  With the capability off there is no
 * difference; without it, unpatched QEMU fails at setting it.
 */
static const SwCase own_cases[] = {
    {
        .path = "postcopy/own-devices", .full = true,
        .device = &sw_virtio_blk_iothread, .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .parallel = true, .postcopy = true, .healthy = true,
        .end = sw_expect_completed,
    }, {
        .path = "pause/own-devices", .full = true,
        .device = &sw_virtio_blk_iothread, .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .parallel = true, .pause_before_switchover = true, .healthy = true,
        .end = sw_expect_completed,
    },
};

static void run_own_case(const void *opaque)
{
    const SwCase *c = opaque;
    SwRig *rig = sw_rig_new(c);

    if (rig) {
        sw_rig_migrate(rig);
        c->end(rig);
        sw_rig_free(rig);
    }
}

void par_add_mode_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        par_add_case(&cases[i]);
    }
    for (i = 0; i < ARRAY_SIZE(own_cases); i++) {
        sw_add_case("parallel-vmstate", &own_cases[i], run_own_case);
    }
}
