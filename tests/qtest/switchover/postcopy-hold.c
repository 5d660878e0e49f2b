/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that is held
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"

/* The guest's heartbeat, if there is one, comes many times as often */
#define SILENCE_MS 300

/* A host with other things to do takes this long from an event to its reader */
#define EVENT_LIMIT_MS 500

/* Memory takes several seconds */
#define SLOW_POSTCOPY (8 * MiB)

static char *migration_info(SwVM *vm, const char *key)
{
    QDict *info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    char *text = g_strdup(qdict_get_try_str(info, key));

    qobject_unref(info);
    return text;
}

char *sw_migration_status(SwVM *vm)
{
    return migration_info(vm, "status");
}

char *sw_migration_error(SwVM *vm)
{
    return migration_info(vm, "error-desc");
}

void sw_expect_migration_error(SwVM *vm, const char *says)
{
    g_autofree char *error = sw_migration_error(vm);

    SW_CHECK(error && strstr(error, says), "%s: the error does not say '%s': "
             "%s", vm->name, says, error ?: "(none)");
}

static int64_t ram_number(SwRig *rig, const char *key)
{
    QDict *info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    QDict *ram = qdict_get_qdict(info, "ram");
    int64_t value;

    SW_CHECK(ram, "query-migrate has no 'ram'");
    value = qdict_get_int(ram, key);
    qobject_unref(info);
    return value;
}

int64_t sw_hold_remaining(SwRig *rig)
{
    return ram_number(rig, "remaining");
}

int64_t sw_hold_requests(SwRig *rig)
{
    return ram_number(rig, "postcopy-requests");
}

typedef struct Flow {
    SwRig *rig;
    int64_t remaining;
    int64_t since_us;
} Flow;

static bool has_no_flow(void *opaque)
{
    Flow *flow = opaque;
    int64_t remaining = sw_hold_remaining(flow->rig);

    if (remaining != flow->remaining) {
        flow->remaining = remaining;
        flow->since_us = sw_now_us();
    }
    return sw_since_ms(flow->since_us) >= SILENCE_MS;
}

void sw_hold_wait_blocked(SwRig *rig)
{
    Flow flow = { .rig = rig };

    sw_wait_until(has_no_flow, &flow, SW_WAIT_MS, "the source to be blocked");
    SW_CHECK(flow.remaining > 0, "there was nothing left to send");
}

static void expect_inactive(SwVM *vm)
{
    QDict *rsp = sw_qmp_rsp(vm->mon, "{ 'execute': 'query-named-block-nodes',"
                            " 'arguments': { 'flat': true } }");
    QListEntry *entry;
    unsigned n = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *node = qobject_to(QDict, qlist_entry_obj(entry));

        SW_CHECK(!qdict_get_bool(node, "active"), "%s: node '%s' is active",
                 vm->name, qdict_get_str(node, "node-name"));
        n++;
    }
    g_assert_cmpuint(n, >, 0);
    qobject_unref(rsp);
}

static void expect_side(SwVM *vm, const char *run_state)
{
    g_autofree char *status = sw_migration_status(vm);
    g_autofree char *state = sw_vm_run_state(vm);

    g_assert_cmpstr(status, ==, "postcopy-ready");
    g_assert_cmpstr(state, ==, run_state);
    g_assert_cmpuint(sw_event_count(vm->mon, "MIGRATION_POSTCOPY_READY"), ==,
                     1);
    expect_inactive(vm);
}

void sw_expect_source_stopped(SwRig *rig, unsigned nth)
{
    int64_t when_us, stop_us, late_us;
    QDict *data = qdict_get_qdict(
        sw_event_wait(rig->src->mon, "MIGRATION_SOURCE_STOPPED", nth, &when_us),
        "data");

    late_us = when_us - qdict_get_int(data, "time-us");
    g_assert_cmpint(late_us, >=, 0);
    SW_CHECK_SOON(late_us / 1000, EVENT_LIMIT_MS, "MIGRATION_SOURCE_STOPPED");
    g_assert_cmpint(qdict_get_int(data, "pass"), >=, 1);
    g_assert_cmpint(qdict_get_int(data, "remaining"), >=, 0);
    g_assert_cmpint(qdict_get_int(data, "remaining"), <=,
                    ram_number(rig, "total"));

    sw_event_wait(rig->src->mon, "STOP", nth, &stop_us);
    g_assert_cmpint(when_us, <=, stop_us);
}

void sw_hold_expect_nobody_runs(SwRig *rig)
{
    unsigned beats;

    /* What it has said before it was stopped may come late */
    sw_guest_wait_silence(rig->src->guest, SILENCE_MS);
    beats = sw_guest_beats(rig->src->guest);
    sw_guest_wait_silence(rig->src->guest, SILENCE_MS);
    SW_CHECK(sw_guest_beats(rig->src->guest) == beats,
             "the guest runs on the source");
    SW_CHECK(sw_guest_beats(rig->dst->guest) == 0,
             "the guest runs on the destination");
    g_assert_cmpuint(sw_event_count(rig->dst->mon, "RESUME"), ==, 0);
}

void sw_hold_expect(SwRig *rig)
{
    if (sw_rig_pauses(rig)) {
        sw_expect_pre_switchover(rig);
    }
    sw_status_wait(rig->src->mon, "postcopy-ready");
    sw_status_wait(rig->dst->mon, "postcopy-ready");
    sw_event_wait(rig->src->mon, "MIGRATION_POSTCOPY_READY", 0, NULL);
    sw_event_wait(rig->dst->mon, "MIGRATION_POSTCOPY_READY", 0, NULL);
    sw_probe_mark(rig->src->probe);
    sw_probe_mark(rig->dst->probe);

    expect_side(rig->src, "finish-migrate");
    expect_side(rig->dst, "inmigrate");
    sw_expect_source_stopped(rig, 0);
    sw_hold_expect_nobody_runs(rig);

    sw_probe_expect_answers(rig->src->probe);
    sw_probe_expect_answers(rig->dst->probe);
}

void sw_hold(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_hold_expect(rig);
}

void sw_hold_limit(SwRig *rig)
{
    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", SLOW_POSTCOPY);
}

void sw_hold_unlimit(SwRig *rig)
{
    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", 0);
}

void sw_hold_limited(SwRig *rig)
{
    sw_hold_limit(rig);
    sw_hold(rig);
}

void sw_hold_continue(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'postcopy-ready' } }");
}

void sw_hold_cont(SwRig *rig)
{
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'cont' }");
    rig->dst_paused = false;
}

void sw_hold_expect_completed(SwRig *rig)
{
    sw_expect_completed(rig);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_POSTCOPY_READY"),
                     ==, 1);
    g_assert_cmpuint(sw_event_count(rig->dst->mon, "MIGRATION_POSTCOPY_READY"),
                     ==, 1);
}

void sw_hold_expect_backed_out(SwRig *rig, const char *status,
                               const char *says)
{
    sw_status_wait(rig->src->mon, status);
    if (says) {
        sw_expect_migration_error(rig->src, says);
    }
    g_assert_false(sw_status_seen(rig->src->mon, "postcopy-active"));
    sw_expect_on_source(rig);
    g_assert_cmpuint(sw_event_count(rig->dst->mon, "RESUME"), ==, 0);
    sw_expect_working(rig);
}

void sw_hold_expect_as_before(SwRig *rig, const char *status,
                              const char *says)
{
    sw_hold_expect_backed_out(rig, status, says);
    sw_rig_renew_destination(rig);
    sw_hold(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
}
