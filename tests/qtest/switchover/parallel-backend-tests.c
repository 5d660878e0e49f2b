/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: backends that others wrote
 *
 * In the full set only: testpmd polls, and so keeps a CPU busy.
 *
 * What backends of their time do not do, and these tests avoid:
 *
 * - qemu-storage-daemon of QEMU 10.0 says that a ring has stopped while it has
 *   requests in flight.  The first one that is completed afterwards makes it
 *   close the connection ("vu_panic: Error writing eventfd"); the others are
 *   lost, or executed again in a wrong order.  So the guest has one in flight
 *   on each disk, and QEMU connects again.  After a migration, the memory where
 *   it says that a request is completed may not be the guest's any more.  So
 *   the guest works while it migrates, but not at the moment of the switchover.
 *   Without this, with unpatched QEMU: "waited 60000 ms for the guest: verify".
 * - A card which is not connected has its link down.  This migrates, and is not
 *   changed by a destination's backend that is there: so no card is migrated
 *   while its backend is dead.
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/parallel-expect.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-stuck.h"
#include "switchover/parallel-tests.h"

#define TURNS 10

/* A monitor that was silent for so long waits for the backend */
#define BLOCKED_MS 500

/* Without the capability: "disk0 took part in 0 of at least 10 stops" */
static void run_stop_cont(ParRig *rig)
{
    unsigned turn;

    for (turn = 0; turn < TURNS; turn++) {
        par_stop(rig);
        par_cont(rig);
        par_expect_works(rig);
    }
    par_expect_took_part(rig, rig->src, TURNS);
    par_move(rig);
}

/* Without the capability: "query-migrate does not list disk0" */
static void run_migrate(ParRig *rig)
{
    par_start_destination(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    par_expect_counted(rig->src, rig, true);
    par_expect_counted(rig->dst, rig, true);
    par_turn(rig);
    par_move(rig);
}

/*
 * Backends that crash while they owe an answer.  Without the capability there
 * is no MIGRATION_DRAIN_TIMEOUT, no phase to be seen, since the monitor does
 * not answer, and no end of cont; and a stop does not name the device.
 */

static bool is_stopping(void *opaque)
{
    ParRig *rig = opaque;
    QDict *info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    QDict *switchover = qdict_get_qdict(info, "switchover");
    bool stopping = switchover &&
        g_str_equal(qdict_get_str(switchover, "phase"), "device-stop");

    qobject_unref(info);
    return stopping;
}

static void expect_reported(ParRig *rig)
{
    g_autofree char *said =
        g_strdup_printf("Backend of device '%s' did not answer properly when "
                        "it was asked to stop", par_victim(rig));

    par_expect_said(rig, rig->src, said);
}

/* While the stopped guest waits for it */
static void run_killed_waiting(ParRig *rig)
{
    par_start_destination(rig);
    par_migrate_slowly(rig);
    par_stick(rig);
    par_hasten(rig);
    sw_wait_until(is_stopping, rig, SW_WAIT_MS, "the source to wait for it");
    par_kill(rig, par_victim(rig));
    par_expect_completed(rig);
    expect_reported(rig);
    par_revive(rig, par_victim(rig));
    par_turn(rig);
    par_move(rig);
}

/* While the migration waits for another attempt */
static void run_killed_retry(ParRig *rig)
{
    par_get_stuck(rig);
    par_calm(rig);
    par_kill(rig, par_victim(rig));
    par_revive(rig, par_victim(rig));
    par_expect_completed(rig);
    par_turn(rig);
    par_move(rig);
}

static void expect_reconnects(ParRig *rig)
{
    par_expect_others_work(rig, par_victim(rig));
    par_revive(rig, par_victim(rig));
    par_expect_works(rig);
    par_move(rig);
}

/* When the migration that met it is over */
static void run_killed_late(ParRig *rig)
{
    par_get_stuck(rig);
    par_cancel(rig);
    par_kill(rig, par_victim(rig));
    expect_reconnects(rig);
}

static bool is_blocked(void *opaque)
{
    ParRig *rig = opaque;

    return sw_probe_worst_ms(rig->src->probe) > BLOCKED_MS;
}

static void run_killed_stop(ParRig *rig)
{
    SwOrder order;

    par_stick(rig);
    sw_probe_mark(rig->src->probe);
    sw_order_begin(&order, rig->src->mon, "stop");
    sw_wait_until(is_blocked, rig, SW_WAIT_MS, "the stop to wait for it");
    par_kill(rig, par_victim(rig));
    sw_order_end(&order);
    par_cont(rig);
    expect_reported(rig);
    expect_reconnects(rig);
}

static void run_killed_cont(ParRig *rig)
{
    par_stop(rig);
    par_stick(rig);
    sw_probe_mark(rig->src->probe);
    par_cont(rig);
    par_expect_alive(rig);
    par_kill(rig, par_victim(rig));
    expect_reconnects(rig);
}

/*
 * testpmd has to be told that it is to take part in post-copy.  It was not, so
 * QEMU says what it always said.
 */
static void run_postcopy_refused(ParRig *rig)
{
    g_autofree char *desc = NULL;

    par_start_destination(rig);
    desc = sw_qmp_error(rig->dst->mon, "{ 'execute':"
                        " 'migrate-set-capabilities', 'arguments': {"
                        " 'capabilities': [ { 'capability': 'postcopy-ram',"
                        " 'state': true } ] } }");
    SW_CHECK(strstr(desc, "vhost-user backend not capable of postcopy"),
             "the destination says: %s", desc);
    par_expect_works(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    par_turn(rig);
}

#define REAL .full = true, .real = true, .reconnect_ms = 100, .depth = 1

#define NICS REAL, .idle = true, .nics = 2, .victim = "nic0"

#define TRACE .trace = "vmstate_change_commit"

static const ParCase cases[] = {
    { .path = "storage-daemon/stop-cont", REAL, TRACE, .run = run_stop_cont },
    { .path = "storage-daemon/shared/stop-cont", REAL, TRACE, .shared = true,
      .run = run_stop_cont },
    { .path = "storage-daemon/migrate", REAL, .run = run_migrate },
    { .path = "storage-daemon/shared/migrate", REAL, .shared = true,
      .run = run_migrate },
    { .path = "storage-daemon/frozen/retry", REAL, .drain_timeout_ms = 500,
      .run = par_run_stuck_retry },
    { .path = "storage-daemon/frozen/cancel", REAL, .drain_timeout_ms = 500,
      .run = par_run_stuck_cancel },
    { .path = "storage-daemon/frozen/cont", REAL, .run = par_run_start_late },
    { .path = "storage-daemon/killed/waiting", REAL,
      .drain_timeout_ms = 30000, .run = run_killed_waiting },
    { .path = "storage-daemon/killed/retry", REAL, .drain_timeout_ms = 500,
      .run = run_killed_retry },
    { .path = "storage-daemon/killed/late", REAL, .drain_timeout_ms = 500,
      .run = run_killed_late },
    { .path = "storage-daemon/killed/stop", REAL, .run = run_killed_stop },
    { .path = "storage-daemon/killed/cont", REAL, .run = run_killed_cont },

    { .path = "testpmd/stop-cont", NICS, TRACE, .run = run_stop_cont },
    { .path = "testpmd/shared/stop-cont", NICS, TRACE, .shared = true,
      .run = run_stop_cont },
    { .path = "testpmd/migrate", NICS, .run = run_migrate },
    { .path = "testpmd/shared/migrate", NICS, .shared = true,
      .run = run_migrate },
    { .path = "testpmd/frozen/retry", NICS, .drain_timeout_ms = 500,
      .run = par_run_stuck_retry },
    { .path = "testpmd/shared/frozen/retry", NICS, .shared = true,
      .drain_timeout_ms = 500, .run = par_run_stuck_retry },
    { .path = "testpmd/frozen/cancel", NICS, .drain_timeout_ms = 500,
      .run = par_run_stuck_cancel },
    { .path = "testpmd/frozen/cont", NICS, .run = par_run_start_late },
    { .path = "testpmd/killed/late", NICS, .drain_timeout_ms = 500,
      .run = run_killed_late },
    { .path = "testpmd/killed/stop", NICS, .run = run_killed_stop },
    { .path = "testpmd/killed/cont", NICS, .run = run_killed_cont },
    { .path = "testpmd/postcopy", NICS, .run = run_postcopy_refused },
};

void par_add_backend_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        par_add_case(&cases[i]);
    }
}
