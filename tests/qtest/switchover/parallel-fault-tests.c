/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: backends that answer something wrong
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-tests.h"

#define VICTIM "disk0"

static void break_backend(ParRig *rig, SwSim *sim)
{
    sw_sim_do(sim, "fault " VICTIM " %s", rig->c->fault);
}

/* If it does not work by itself, it does with a new connection */
static void expect_recovers(ParRig *rig)
{
    int64_t requests = sw_sim_requests(par_sim(rig, VICTIM), VICTIM);
    int64_t start_us = sw_now_us();
    bool works = false;

    while (!works && sw_since_ms(start_us) < 3000) {
        works = sw_sim_requests(par_sim(rig, VICTIM), VICTIM) > requests + 16;
        g_usleep(10000);
    }
    g_test_message("%s", works ? "works on" : "needs a new connection");
    if (!works || g_str_has_prefix(rig->c->fault, "twice")) {
        /* What was said once too often is taken for the next answer */
        sw_sim_do(par_sim(rig, VICTIM), "drop " VICTIM);
    }
    par_expect_works(rig);
}

static void expect_said(ParRig *rig, SwVM *vm)
{
    g_autofree char *text = NULL;

    if (rig->c->says) {
        par_expect_said(rig, vm, rig->c->says);
    }
    text = par_stderr(rig, vm);
    g_test_message("%s", text);
}

/*
 * Without the capability nothing names the device.  Where QEMU's own message is
 * enough (close, short, kind), nothing is different: it must be as good as
 * that.
 */
static void run_stop(ParRig *rig)
{
    break_backend(rig, par_sim(rig, VICTIM));
    par_stop(rig);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    par_cont(rig);
    par_expect_others_work(rig, VICTIM);
    expect_said(rig, rig->src);
    expect_recovers(rig);
    par_move(rig);
}

static void run_start(ParRig *rig)
{
    par_stop(rig);
    break_backend(rig, par_sim(rig, VICTIM));
    par_cont(rig);
    par_expect_others_work(rig, VICTIM);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    expect_said(rig, rig->src);
    expect_recovers(rig);
    par_move(rig);
}

static void run_source(ParRig *rig)
{
    par_start_destination(rig);
    break_backend(rig, par_sim(rig, VICTIM));
    par_migrate(rig);
    par_expect_completed(rig);
    expect_said(rig, rig->src);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    par_turn(rig);
    par_move(rig);
}

static void run_destination(ParRig *rig)
{
    par_start_destination(rig);
    break_backend(rig, par_dst_sim(rig, VICTIM));
    par_migrate(rig);
    sw_status_wait(rig->src->mon, "completed");
    sw_guest_wait_beats(rig->dst->guest, 20);
    par_turn(rig);
    par_expect_others_work(rig, VICTIM);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    expect_said(rig, rig->src);
    expect_recovers(rig);
    par_move(rig);
}

#define FAULTY .nics = 1, .reconnect_ms = 100

static const ParCase cases[] = {
    { .path = "fault/stop/close", FAULTY, .fault = "close GET_VRING_BASE",
      .says = "Original request 11", .run = run_stop },
    { .path = "fault/stop/short", FAULTY, .fault = "short GET_VRING_BASE",
      .says = "Received bad msg size", .full = true, .run = run_stop },
    { .path = "fault/stop/kind", FAULTY,
      .fault = "kind GET_VRING_BASE to=GET_FEATURES",
      .says = "Received unexpected msg type", .full = true, .run = run_stop },
    { .path = "fault/stop/value", FAULTY,
      .fault = "value GET_VRING_BASE queue=0 index=1",
      .says = "'" VICTIM "' was asked for ring 0, and answered for ring 1",
      .run = run_stop },
    { .path = "fault/stop/swap", FAULTY, .fault = "swap GET_VRING_BASE",
      .says = VICTIM, .full = true, .run = run_stop },
    { .path = "fault/stop/twice", FAULTY, .fault = "twice GET_VRING_BASE",
      .says = VICTIM, .full = true, .run = run_stop },
    { .path = "fault/start/nack-enable", FAULTY,
      .fault = "nack SET_VRING_ENABLE",
      .says = "'" VICTIM "'", .run = run_start },
    { .path = "fault/start/nack-table", FAULTY, .fault = "nack SET_MEM_TABLE",
      .says = "'" VICTIM "'", .full = true, .run = run_start },
    { .path = "fault/start/close", FAULTY, .fault = "close SET_VRING_ENABLE",
      .says = VICTIM, .full = true, .run = run_start },
    { .path = "fault/start/twice", FAULTY, .fault = "twice SET_VRING_ENABLE",
      .full = true, .run = run_start },
    { .path = "fault/source/close", FAULTY, .fault = "close GET_VRING_BASE",
      .says = "Original request 11", .full = true, .run = run_source },
    { .path = "fault/source/value", FAULTY,
      .fault = "value GET_VRING_BASE queue=0 index=1",
      .says = VICTIM, .full = true, .run = run_source },
    { .path = "fault/destination/nack-enable", FAULTY,
      .fault = "nack SET_VRING_ENABLE",
      .says = "'" VICTIM "'", .full = true, .run = run_destination },
    { .path = "fault/destination/nack-table", FAULTY,
      .fault = "nack SET_MEM_TABLE",
      .says = "'" VICTIM "'", .full = true, .run = run_destination },
    { .path = "fault/destination/close", FAULTY,
      .fault = "close SET_VRING_ADDR",
      .says = VICTIM, .full = true, .run = run_destination },
};

void par_add_fault_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        par_add_case(&cases[i]);
    }
}
