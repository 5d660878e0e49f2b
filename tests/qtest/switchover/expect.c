/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what must be true of a rig
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "switchover/expect.h"
#include "switchover/harness.h"

/* Heartbeats that prove that a guest runs: a second's worth of a slow one */
#define PROOF_BEATS 20

/* More than what a loaded host may take from a guest that runs */
#define STOPPED_MS 300

/* A guest at work that is not limited asks for something within this time */
#define QUEUED_MS 250

static const char *const kind_names[] = {
    "read", "write", "flush", "discard", "truncate", "ioctl", "other", NULL
};

static const char *const phase_names[] = {
    "approach", "quiesce", "stop", "device-stop", "drain", "save", "hold",
    "handover", "load", "activate", "device-start", "resume", NULL
};

static bool is_transfer(const char *kind)
{
    return g_str_equal(kind, "read") || g_str_equal(kind, "write") ||
           g_str_equal(kind, "discard");
}

/* Where and how much: on the disk, and not all over it */
static void check_extent(QDict *request)
{
    int64_t offset = qdict_get_try_int(request, "offset", -1);
    int64_t bytes = qdict_get_try_int(request, "bytes", -1);

    g_assert_cmpint(offset, >=, 0);
    g_assert_cmpint(bytes, >, 0);
    g_assert_cmpint(offset + bytes, <=, SW_DISK_MIB * 1024 * 1024);
}

/* Whether it is one that the victim holds */
static bool check_request(SwRig *rig, QDict *request)
{
    const char *node = qdict_get_str(request, "node");
    const char *kind = qdict_get_str(request, "kind");
    int64_t age_ms = qdict_get_try_int(request, "age-ms", 0);

    SW_CHECK(g_strv_contains(kind_names, kind), "unknown kind '%s'", kind);
    g_assert_cmpint(age_ms, >=, 0);
    if (!g_str_has_prefix(node, rig->victim_node) ||
        (rig->victim_kind != SW_KIND_ANY &&
         !g_str_equal(kind, sw_kind_str(rig->victim_kind)))) {
        return false;
    }
    if (is_transfer(kind)) {
        check_extent(request);
    }
    return true;
}

/* Whether a request of the guest says so by naming the device */
static bool names_device(QDict *request)
{
    const char *device = qdict_get_try_str(request, "device");

    return device && strstr(device, "dev0");
}

static void check_requests(SwRig *rig, QList *requests)
{
    bool guests_own = rig->victim == rig->disk[0] && !rig->c->idle;
    bool found = false, found_device = false;
    g_autoptr(GString) text = NULL;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(requests, entry) {
        QDict *request = qobject_to(QDict, qlist_entry_obj(entry));

        found |= check_request(rig, request);
        found_device |= names_device(request);
    }
    text = qobject_to_json(QOBJECT(requests));
    SW_CHECK(found, "no '%s' on %s among the stuck requests: %s",
             sw_kind_str(rig->victim_kind), rig->victim_node, text->str);
    SW_CHECK(found_device || !guests_own,
             "the stuck requests do not name the guest's device: %s",
             text->str);
}

static void check_timeout(SwRig *rig, QDict *event, unsigned attempt)
{
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpint(qdict_get_int(data, "attempt"), ==, attempt);
    g_assert_cmpint(qdict_get_int(data, "elapsed-ms"), >=,
                    sw_rig_drain_timeout_ms(rig));
    g_assert_cmpstr(qdict_get_str(data, "action"), ==,
                    rig->c->action ?: "retry");
    check_requests(rig, qdict_get_qlist(data, "requests"));
}

void sw_expect_timeouts(SwRig *rig)
{
    unsigned wanted = rig->c->timeouts ?: 1;
    int64_t when_us, last_us = 0, gap_us, last_gap_us = 0;
    QDict *event;
    unsigned n;

    for (n = 0; n < wanted; n++) {
        event = sw_event_wait(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT", n,
                              &when_us);
        check_timeout(rig, event, n + 1);

        gap_us = when_us - last_us;
        SW_CHECK(n < 2 || gap_us > last_gap_us,
                 "time-out %u came %d ms after the one before, which is no "
                 "longer than the %d ms before that", n + 1,
                 (int)(gap_us / 1000), (int)(last_gap_us / 1000));
        last_gap_us = gap_us;
        last_us = when_us;
    }
}

static bool has_hung(void *opaque)
{
    SwRig *rig = opaque;

    return sw_since_ms(rig->begun_us) >= SW_HANG_MS;
}

void sw_expect_monitor_alive(SwRig *rig)
{
    sw_wait_until(has_hung, rig, 2 * SW_HANG_MS, "the hang to be long enough");
    sw_probe_expect_answers(rig->src->probe);
}

void sw_expect_alive(SwRig *rig)
{
    int64_t gap_ms;

    sw_wait_until(has_hung, rig, 2 * SW_HANG_MS, "the hang to be long enough");
    gap_ms = sw_guest_worst_gap_ms(rig->src->guest, rig->begun_us,
                                   sw_now_us());
    g_test_message("victim stuck: guest silent for %d ms at worst",
                   (int)gap_ms);
    if (!rig->paused) {
        SW_CHECK_SOON(gap_ms, SW_GAP_LIMIT_MS, "the guest's silence");
    }
    sw_expect_monitor_alive(rig);
}

static bool is_queued(void *opaque)
{
    SwRig *rig = opaque;
    unsigned seen = sw_disk_seen(rig->victim, SW_KIND_ANY);

    g_usleep(QUEUED_MS * 1000);
    return sw_disk_seen(rig->victim, SW_KIND_ANY) == seen &&
           sw_disk_held(rig->victim, SW_KIND_ANY) == 0;
}

void sw_expect_requests_queued(SwRig *rig)
{
    sw_wait_until(is_queued, rig, SW_WAIT_MS, "limits to hold requests back");
}

static bool is_waiting(void *opaque)
{
    static const char *const waits[] = {
        "stop", "device-stop", "drain", NULL
    };
    SwRig *rig = opaque;
    QDict *info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    QDict *switchover = qdict_get_qdict(info, "switchover");
    bool waiting = switchover &&
        g_strv_contains(waits, qdict_get_str(switchover, "phase"));

    qobject_unref(info);
    return waiting;
}

void sw_expect_waiting(SwRig *rig)
{
    sw_wait_until(is_waiting, rig, SW_WAIT_MS,
                  "the source to wait for requests");
    sw_guest_wait_silence(rig->src->guest, STOPPED_MS);
    SW_CHECK(is_waiting(rig), "the source did not go on waiting");
}

void sw_expect_on_source(SwRig *rig)
{
    SwVM *src = rig->src;
    g_autofree char *state = NULL;

    if (rig->paused) {
        g_assert_cmpuint(sw_guest_beats(src->guest), ==, rig->paused_beats);
    } else {
        sw_guest_wait_beats(src->guest, PROOF_BEATS);
    }
    state = sw_vm_run_state(src);
    g_assert_cmpstr(state, ==, rig->paused ? "paused" : "running");
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    if (rig->c->dst_stays) {
        g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    } else {
        sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    }
}

typedef struct Progress {
    SwGuest *guest;
    int64_t ops;
} Progress;

static bool has_progressed(void *opaque)
{
    Progress *progress = opaque;

    return sw_guest_ops(progress->guest) > progress->ops;
}

void sw_expect_guest_working(SwGuest *guest)
{
    Progress progress = { .guest = guest, .ops = sw_guest_ops(guest) };

    g_free(sw_guest_cmd(guest, "mode rw"));
    sw_wait_until(has_progressed, &progress, SW_WAIT_MS,
                  "the guest's I/O to go on");
    g_free(sw_guest_cmd(guest, "verify"));
    sw_guest_ops(guest);
}

void sw_expect_working(SwRig *rig)
{
    if (rig->paused) {
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
        rig->paused = false;
    }
    sw_expect_guest_working(rig->src->guest);
}

void sw_expect_pre_switchover(SwRig *rig)
{
    sw_status_wait(rig->src->mon, "pre-switchover");
    if (rig->c->at_pre_switchover) {
        rig->c->at_pre_switchover(rig);
    }
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'pre-switchover' } }");
}

/* The guest was stopped, or the destination started with -S */
static void let_paused_destination_run(SwRig *rig)
{
    sw_status_wait(rig->dst->mon, "completed");
    sw_vm_wait_state(rig->dst, "paused");
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'cont' }");
}

void sw_expect_moved(SwRig *rig)
{
    unsigned beats;

    if (sw_rig_pauses(rig) && !sw_rig_holds(rig)) {
        sw_expect_pre_switchover(rig);
    }
    sw_status_wait(rig->src->mon, "completed");
    g_assert_true(sw_status_seen(rig->src->mon, "postcopy-active") ==
                  rig->c->postcopy);
    sw_vm_wait_state(rig->src, "postmigrate");

    if (rig->paused || rig->dst_paused) {
        let_paused_destination_run(rig);
    }
    sw_vm_wait_state(rig->dst, "running");
    sw_guest_wait_beats(rig->dst->guest, PROOF_BEATS);
    beats = sw_guest_beats(rig->src->guest);
    g_assert_true(!rig->paused || beats == rig->paused_beats);
    sw_guest_wait_beats(rig->dst->guest, PROOF_BEATS);
    SW_CHECK(sw_guest_beats(rig->src->guest) == beats,
             "the guest runs on both sides");
}

void sw_expect_completed(SwRig *rig)
{
    unsigned beats;

    sw_expect_moved(rig);
    beats = sw_guest_beats(rig->src->guest);
    sw_expect_guest_working(rig->dst->guest);
    SW_CHECK(sw_guest_beats(rig->src->guest) == beats,
             "the guest runs on both sides");
}

static void check_phases(QDict *switchover)
{
    QList *phases = qdict_get_qlist(switchover, "phases");
    QListEntry *entry;

    g_assert_cmpuint(qlist_size(phases), >, 0);
    QLIST_FOREACH_ENTRY(phases, entry) {
        QDict *phase = qobject_to(QDict, qlist_entry_obj(entry));
        const char *name = qdict_get_str(phase, "phase");

        SW_CHECK(g_strv_contains(phase_names, name), "unknown phase '%s'",
                 name);
        g_assert_cmpint(qdict_get_int(phase, "duration-us"), >=, 0);
    }
}

static void check_quiesce(QDict *switchover)
{
    QDict *quiesce = qdict_get_qdict(switchover, "quiesce");

    g_assert_nonnull(quiesce);
    g_assert_cmpint(qdict_get_int(quiesce, "windows"), >=,
                    qdict_get_int(quiesce, "hits"));
    g_assert_cmpint(qdict_get_int(quiesce, "total-ms"), >=,
                    qdict_get_int(quiesce, "max-ms"));
}

void sw_expect_account(SwRig *rig)
{
    QDict *switchover = sw_vm_migration(rig->src, "switchover");
    unsigned timeouts = sw_event_count(rig->src->mon,
                                       "MIGRATION_DRAIN_TIMEOUT");

    g_assert_cmpint(qdict_get_int(switchover, "drain-timeouts"), ==, timeouts);
    g_assert_cmpint(qdict_get_int(switchover, "attempts"), >=, timeouts);
    g_assert_cmpint(qdict_get_int(switchover, "in-flight-at-stop"), >=, 0);
    SW_CHECK(g_strv_contains(phase_names, qdict_get_str(switchover, "phase")),
             "unknown phase '%s'", qdict_get_str(switchover, "phase"));
    check_phases(switchover);
    check_quiesce(switchover);
    qobject_unref(switchover);
}

void sw_expect_error_names_request(SwRig *rig)
{
    QDict *info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    const char *desc = qdict_get_try_str(info, "error-desc");

    SW_CHECK(desc && strstr(desc, rig->victim_node),
             "the error does not name %s: %s", rig->victim_node,
             desc ?: "(none)");
    SW_CHECK(rig->victim_kind == SW_KIND_ANY ||
             strstr(desc, sw_kind_str(rig->victim_kind)),
             "the error does not say '%s': %s",
             sw_kind_str(rig->victim_kind), desc);
    qobject_unref(info);
}
