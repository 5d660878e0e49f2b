/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: backends that do not answer
 *
 * disk0 is the victim.  With the capability off, the ones about a stop all fail
 * in the same way: there is no MIGRATION_DRAIN_TIMEOUT within SW_WAIT_MS, and
 * the monitor does not answer, because the main loop waits for the backend.
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "switchover/harness.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-stuck.h"
#include "switchover/parallel-tests.h"

#define VICTIM "disk0"

/* migrate_cancel takes effect within this, and a generous addition */
#define CANCEL_LIMIT_MS (500 + 500)

/* Its process does nothing at all, and is not merely silent */
static bool freezes(ParRig *rig)
{
    return rig->c->lone || rig->c->real;
}

void par_stick(ParRig *rig)
{
    if (freezes(rig)) {
        par_freeze(rig, par_victim(rig));
    } else {
        sw_sim_do(par_sim(rig, VICTIM), "fault " VICTIM " hold %s",
                  rig->c->fault ?: "GET_VRING_BASE");
    }
}

void par_release(ParRig *rig)
{
    if (rig->c->real) {
        /* What comes next may be a switchover */
        par_calm(rig);
    }
    if (freezes(rig)) {
        par_thaw(rig, par_victim(rig));
    } else {
        sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
        /* A new connection has nothing held */
        if (sw_sim_holds(par_sim(rig, VICTIM), VICTIM)) {
            sw_sim_do(par_sim(rig, VICTIM), "resume " VICTIM);
        }
    }
}

static bool is_victim(ParRig *rig, const char *device)
{
    return par_share_fate(rig, par_victim(rig), device);
}

static bool list_has(QList *list, const char *name)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        if (g_str_equal(qstring_get_str(qobject_to(QString,
                                                   qlist_entry_obj(entry))),
                        name)) {
            return true;
        }
    }
    return false;
}

static void expect_timeout_names_victim(ParRig *rig)
{
    QDict *event = sw_event_wait(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT", 0,
                                 NULL);
    QDict *data = qdict_get_qdict(event, "data");
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);
        bool named = list_has(qdict_get_qlist(data, "devices"), device);

        SW_CHECK(named == is_victim(rig, device),
                 "MIGRATION_DRAIN_TIMEOUT %s %s",
                 named ? "names" : "does not name", device);
    }
    g_assert_cmpint(qdict_get_int(data, "elapsed-ms"), >=,
                    rig->c->drain_timeout_ms);
    g_assert_cmpstr(qdict_get_str(data, "action"), ==,
                    rig->c->action ?: "retry");
}

/* The guest, the monitor, and all devices but the victim work */
void par_expect_alive(ParRig *rig)
{
    int64_t start_us = sw_now_us();
    int64_t gap_ms;

    par_expect_others_work(rig, par_victim(rig));
    sw_probe_expect_answers(rig->src->probe);
    gap_ms = sw_guest_worst_gap_ms(rig->src->guest, start_us, sw_now_us());
    g_test_message("guest silent for %d ms at worst", (int)gap_ms);
    /* There may be another attempt meanwhile */
    SW_CHECK_SOON(gap_ms, SW_GAP_LIMIT_MS + rig->c->drain_timeout_ms,
                  "the guest's silence");
}

static void expect_late(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);

        /* On a busy machine, another one may be for a moment */
        par_wait_late(rig, device, is_victim(rig, device));
    }
}

void par_get_stuck(ParRig *rig)
{
    par_start_destination(rig);
    /* The begin of a migration does talk to the backend, and waits for it */
    par_migrate_slowly(rig);
    par_stick(rig);
    par_hasten(rig);
    expect_timeout_names_victim(rig);
    expect_late(rig);
    par_expect_alive(rig);
}

/*
 * With a return path, as in post-copy, QEMU 10.0 closes the connection before
 * it says that it is cancelling: now and then, the migration fails instead.
 */
static bool is_cancelled(void *opaque)
{
    ParRig *rig = opaque;

    return sw_status_seen(rig->src->mon, "cancelled") ||
           (rig->c->postcopy && sw_status_seen(rig->src->mon, "failed"));
}

void par_cancel(ParRig *rig)
{
    int64_t asked_us = sw_now_us();
    int64_t took_ms;

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_wait_until(is_cancelled, rig, SW_WAIT_MS, "migrate_cancel");
    took_ms = sw_since_ms(asked_us);
    g_test_message("cancelled after %d ms", (int)took_ms);
    SW_CHECK_SOON(took_ms, CANCEL_LIMIT_MS, "migrate_cancel");
    sw_guest_wait_beats(rig->src->guest, 1);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
}

/* Everything is as if nothing had happened */
static void expect_recovered(ParRig *rig)
{
    par_expect_works(rig);
    par_move(rig);
}

void par_run_stuck_cancel(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    expect_late(rig);
    par_expect_alive(rig);
    par_release(rig);
    par_wait_late(rig, par_victim(rig), false);
    expect_recovered(rig);
}

void par_run_stuck_retry(ParRig *rig)
{
    par_get_stuck(rig);
    par_release(rig);
    par_expect_completed(rig);
    par_turn(rig);
}

static void run_fail(ParRig *rig)
{
    const char *desc;
    QDict *info;

    par_get_stuck(rig);
    sw_status_wait(rig->src->mon, "failed");
    info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    desc = qdict_get_try_str(info, "error-desc");
    SW_CHECK(desc && strstr(desc, VICTIM) && strstr(desc, "drain-timeout"),
             "the error does not name the device and drain-timeout: %s",
             desc ?: "(none)");
    qobject_unref(info);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    par_expect_alive(rig);
    par_release(rig);
    expect_recovered(rig);
}

/* The begin of a migration would wait for the backend, so there is none */
static void expect_migrate_refused(ParRig *rig)
{
    g_autofree char *desc =
        sw_qmp_error(rig->src->mon, "{ 'execute': 'migrate',"
                     " 'arguments': { 'uri': 'unix:/nobody-listens' } }");

    SW_CHECK(strstr(desc, "'" VICTIM "'") && strstr(desc, "not answered"),
             "the error does not name the device: %s", desc);
    par_expect_alive(rig);
}

/* Without the check, the monitor is dead until the backend answers */
static void run_again_while_late(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    expect_migrate_refused(rig);
    par_release(rig);
    par_wait_late(rig, VICTIM, false);
    expect_recovered(rig);
}

static void run_dropped(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    sw_sim_drop(par_sim(rig, VICTIM), VICTIM);
    expect_recovered(rig);
}

/* The migration is still waiting for another attempt */
static void run_dropped_retry(ParRig *rig)
{
    par_get_stuck(rig);
    sw_sim_do(par_sim(rig, VICTIM), "clear " VICTIM);
    sw_sim_do(par_sim(rig, VICTIM), "drop " VICTIM);
    par_expect_completed(rig);
    par_turn(rig);
}

/* Nobody waits longer than drain-timeout for who is late already */
static void run_quit_unanswered(ParRig *rig)
{
    par_get_stuck(rig);
    qobject_unref(sw_qmp_try(rig->src->mon, "{ 'execute': 'quit' }"));
    sw_vm_wait_exit(rig->src, EXIT_SUCCESS);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    par_release(rig);
}

static void run_reset(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    sw_guest_expect_reboot(rig->src->guest);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'system_reset' }");
    sw_probe_expect_answers(rig->src->probe);
    par_release(rig);
    sw_guest_wait_ready(rig->src->guest, par_disks(rig->c));
}

/* While the stopped guest waits for it, and all others have answered */
static void run_dropped_waiting(ParRig *rig)
{
    par_start_destination(rig);
    par_stick(rig);
    par_migrate(rig);
    sw_sim_wait_held(par_sim(rig, VICTIM), VICTIM);
    sw_sim_do(par_sim(rig, VICTIM), "drop " VICTIM);
    par_expect_completed(rig);
    par_turn(rig);
    par_move(rig);
}

/* A card with several queue pairs, which share a connection */
static void run_nic(ParRig *rig)
{
    QDict *event, *data;
    QString *first;

    par_start_destination(rig);
    sw_sim_do(par_sim(rig, "nic0"), "fault nic0 hold GET_VRING_BASE n=3");
    par_migrate(rig);
    event = sw_event_wait(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT", 0, NULL);
    data = qdict_get_qdict(event, "data");
    first = qobject_to(QString, qlist_peek(qdict_get_qlist(data, "devices")));
    g_assert_cmpstr(qstring_get_str(first), ==, "nic0");
    par_expect_others_work(rig, "nic0");
    par_cancel(rig);
    sw_sim_do(par_sim(rig, "nic0"), "resume nic0");
    par_wait_late(rig, "nic0", false);
    expect_recovered(rig);
}


/* Some are done and some are not, again and again */
static void run_many_times(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < 5; n++) {
        par_get_stuck(rig);
        par_cancel(rig);
        par_release(rig);
        par_wait_late(rig, VICTIM, false);
        par_expect_works(rig);
        sw_watchdog_start();
    }
    par_move(rig);
}

/* The destination dies while the source waits for another attempt */
static void run_destination_dies(ParRig *rig)
{
    par_get_stuck(rig);
    sw_vm_kill(rig->dst);
    sw_status_wait(rig->src->mon, "failed");
    expect_late(rig);
    par_expect_alive(rig);
    par_release(rig);
    par_wait_late(rig, VICTIM, false);
    expect_recovered(rig);
}

static void run_nic_stop(ParRig *rig)
{
    SwOrder order;

    sw_sim_do(par_sim(rig, "nic0"), "fault nic0 hold GET_VRING_BASE n=3");
    sw_order_begin(&order, rig->src->mon, "stop");
    sw_sim_wait_held(par_sim(rig, "nic0"), "nic0");
    sw_sim_do(par_sim(rig, "nic0"), "resume nic0");
    sw_order_end(&order);
    par_cont(rig);
    par_expect_works(rig);
}

static void run_stop_while_late(ParRig *rig)
{
    SwOrder order;

    par_get_stuck(rig);
    par_cancel(rig);
    sw_order_begin(&order, rig->src->mon, "stop");
    par_release(rig);
    sw_order_end(&order);
    g_assert_true(sw_vm_in_state(rig->src, "paused"));
    par_cont(rig);
    expect_recovered(rig);
}

static void run_quit(ParRig *rig)
{
    SwOrder order;

    par_get_stuck(rig);
    sw_order_begin(&order, rig->src->mon, "quit");
    par_release(rig);
    sw_order_end(&order);
    sw_vm_wait_exit(rig->src, EXIT_SUCCESS);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
}

/* The guest ends, and with it QEMU */
static void run_poweroff(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    g_free(sw_guest_cmd(rig->src->guest, "poweroff"));
    par_release(rig);
    sw_vm_wait_exit(rig->src, EXIT_SUCCESS);
}

/*
 * At cont.  Without the capability: cont is answered only after the backend
 * did, which here is never.
 */
void par_run_start_late(ParRig *rig)
{
    g_autofree char *said = NULL;

    par_stop(rig);
    par_stick(rig);
    sw_probe_mark(rig->src->probe);
    par_cont(rig);
    g_assert_true(sw_vm_in_state(rig->src, "running"));
    par_expect_alive(rig);
    said = g_strdup_printf("Device '%s' starts later", par_victim(rig));
    par_expect_said(rig, rig->src, said);
    par_release(rig);
    expect_recovered(rig);
}

/* It still owes an answer to its start */
static void run_start_late_migrate(ParRig *rig)
{
    par_stop(rig);
    par_stick(rig);
    par_cont(rig);
    expect_migrate_refused(rig);
    par_release(rig);
    par_expect_works(rig);
    expect_recovered(rig);
}

/* At the destination, where the guest is not held up either */
void par_run_start_late_destination(ParRig *rig)
{
    par_start_destination(rig);
    sw_sim_do(par_dst_sim(rig, VICTIM), "fault " VICTIM " hold %s",
              rig->c->fault);
    par_migrate(rig);
    sw_status_wait(rig->src->mon, "completed");
    sw_guest_wait_beats(rig->dst->guest, 20);
    par_turn(rig);
    par_expect_alive(rig);
    par_release(rig);
    expect_recovered(rig);
}

#define STUCK .nics = 1, .drain_timeout_ms = 500

static const ParCase cases[] = {
    { .path = "stuck/cancel", STUCK, .run = par_run_stuck_cancel },
    { .path = "stuck/frozen/cancel", STUCK, .lone = true, .full = true,
      .run = par_run_stuck_cancel },
    { .path = "stuck/retry", STUCK, .full = true, .run = par_run_stuck_retry },
    { .path = "stuck/frozen/retry", STUCK, .lone = true,
      .run = par_run_stuck_retry },
    { .path = "stuck/fail", STUCK, .action = "fail", .run = run_fail },
    { .path = "stuck/again", STUCK, .full = true,
      .run = run_again_while_late },
    { .path = "stuck/dropped", STUCK, .reconnect_ms = 100,
      .run = run_dropped },
    { .path = "stuck/dropped-retry", STUCK, .reconnect_ms = 100, .full = true,
      .run = run_dropped_retry },
    { .path = "stuck/dropped-waiting", .nics = 1, .drain_timeout_ms = 20000,
      .reconnect_ms = 100, .full = true, .run = run_dropped_waiting },
    { .path = "stuck/nic", .nics = 2, .queues = 4, .drain_timeout_ms = 300,
      .full = true, .run = run_nic },
    { .path = "stuck/nic-stop", .nics = 2, .queues = 4, .full = true,
      .run = run_nic_stop },
    { .path = "stuck/many-times", STUCK, .full = true,
      .run = run_many_times },
    { .path = "stuck/destination-dies", STUCK, .full = true,
      .run = run_destination_dies },
    { .path = "stuck/quit", STUCK, .full = true, .run = run_quit },
    { .path = "stuck/quit-unanswered", STUCK, .full = true,
      .run = run_quit_unanswered },
    { .path = "stuck/poweroff", STUCK, .full = true, .run = run_poweroff },
    { .path = "stuck/reset", STUCK, .reconnect_ms = 100, .full = true,
      .run = run_reset },
    { .path = "stuck/stop", STUCK, .run = run_stop_while_late },
    { .path = "start-late/cont", STUCK, .fault = "SET_VRING_ENABLE",
      .run = par_run_start_late },
    { .path = "start-late/frozen", STUCK, .lone = true, .full = true,
      .run = par_run_start_late },
    { .path = "start-late/migrate", STUCK, .fault = "SET_VRING_ENABLE",
      .full = true, .run = run_start_late_migrate },
    { .path = "start-late/destination", STUCK, .fault = "SET_VRING_ENABLE",
      .full = true, .run = par_run_start_late_destination },
};

void par_add_stuck_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        par_add_case(&cases[i]);
    }
}
