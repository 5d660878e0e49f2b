/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: who has the capability postcopy-ready, and with what
 *
 * Both sides have to have it, or neither; who finds that they differ says so
 * before the guest is stopped.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/postcopy-ready-tests.h"

#define STOCK "SWITCHOVER_STOCK"
#define NO_GUEST "-machine q35 -m 16 -S"

/*
 * The two sides differ
 */

static void expect_destination_said(SwRig *rig, const char *says)
{
    g_autofree char *said = NULL;

    if (rig->dst_stderr) {
        g_assert(g_file_get_contents(rig->dst_stderr, &said, NULL, NULL));
        SW_CHECK(strstr(said, says), "the destination does not say '%s': %s",
                 says, said);
    }
}

/* @src_says: NULL if the source cannot know */
static void expect_refused(SwRig *rig, const char *src_says,
                           const char *dst_says)
{
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_status_wait(rig->src->mon, "failed");
    if (src_says) {
        sw_expect_migration_error(rig->src, src_says);
    }
    sw_status_wait(rig->dst->mon, "failed");
    expect_destination_said(rig, dst_says);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "STOP"), ==, 0);
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

static void end_source_only(SwRig *rig)
{
    expect_refused(rig, "set the capability there as well",
                   "postcopy-ready is off, but received capability is on");
}

static void end_destination_only(SwRig *rig)
{
    expect_refused(rig, NULL,
                   "postcopy-ready is on, but received capability is off");
}

static void end_to_stock(SwRig *rig)
{
    expect_refused(rig, "set the capability there as well",
                   "unknown capability postcopy-ready");
}

/*
 * Snapshots have no other side: they are loaded whatever it was saved with.
 * Otherwise, "... but received capability is ..."
 */

static void set_ready(SwRig *rig, bool on)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-set-capabilities',"
              " 'arguments': { 'capabilities': ["
              " { 'capability': 'postcopy-ram', 'state': %i },"
              " { 'capability': 'postcopy-ready', 'state': %i } ] } }",
              on, on);
}

/* The guest is stopped, so nothing of what it did is undone */
static void save_and_load(SwRig *rig, bool saved_with, bool loaded_with)
{
    g_autofree char *saved = NULL;
    g_autofree char *loaded = NULL;

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    set_ready(rig, saved_with);
    saved = sw_hmp(rig->src->mon, "savevm snapshot");
    g_assert_cmpstr(saved, ==, "");
    set_ready(rig, loaded_with);
    loaded = sw_hmp(rig->src->mon, "loadvm snapshot");
    g_assert_cmpstr(loaded, ==, "");
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    sw_expect_guest_working(rig->src->guest);
}

static void end_snapshots(SwRig *rig)
{
    save_and_load(rig, true, false);
    save_and_load(rig, false, true);
    save_and_load(rig, true, true);
}

static const SwCase cases[] = {
    {
        .path = "mismatch/source-only",
        SW_READY_GUEST,
        .ready = SW_SOURCE_ONLY,
        .dst_stays = true,
        .end = end_source_only,
    }, {
        .path = "mismatch/destination-only",
        .full = true,
        SW_READY_GUEST,
        .ready = SW_DESTINATION_ONLY,
        .dst_stays = true,
        .end = end_destination_only,
    }, {
        .path = "mismatch/to-stock",
        .full = true,
        SW_READY_GUEST,
        .dst_binary = STOCK,
        .machine = "pc-q35-10.0",
        .ready = SW_SOURCE_ONLY,
        .dst_stays = true,
        .end = end_to_stock,
    }, {
        .path = "mismatch/from-stock",
        .full = true,
        SW_READY_GUEST,
        .src_binary = STOCK,
        .machine = "pc-q35-10.0",
        .off = true,
        .ready = SW_DESTINATION_ONLY,
        .dst_stays = true,
        .end = end_destination_only,
    }, {
        .path = "snapshots",
        .full = true,
        SW_READY_LOCAL,
        .end = end_snapshots,
    },
};

/*
 * What a user types
 */

static char *refusal(SwVM *vm, const char *caps)
{
    QDict *cmd = qdict_from_jsonf_nofail(
        "{ 'execute': 'migrate-set-capabilities', 'arguments': {} }");

    qdict_put_obj(qdict_get_qdict(cmd, "arguments"), "capabilities",
                  qobject_from_json(caps, &error_abort));
    return sw_qmp_error(vm->mon, "%p", cmd);
}

#define ON(name) "{\"capability\":\"" name "\",\"state\":true}"

/* Setting the capabilities is refused with an error that says @says */
static void check_refused(SwVM *vm, const char *caps, const char *says)
{
    g_autofree char *error = refusal(vm, caps);

    SW_CHECK(strstr(error, "postcopy-ready") && strstr(error, says),
             "%s: the error does not say '%s': %s", caps, says, error);
}

static void set_both(SwVM *vm)
{
    sw_vm_set_capability(vm, "postcopy-ram");
    sw_vm_set_capability(vm, "postcopy-ready");
}

static void test_capability(SwVM *vm)
{
    check_refused(vm, "[" ON("postcopy-ready") "]", "postcopy-ram");
    check_refused(vm, "[" ON("postcopy-ram") "," ON("postcopy-ready") ","
                  ON("release-ram") "]", "release-ram");
    set_both(vm);
    check_refused(vm, "[" ON("release-ram") "]", "release-ram");
    check_refused(vm, "[" ON("x-colo") "]", "x-colo");
}

static void migrate_to_nowhere(SwVM *vm)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': 'exec:cat >/dev/null' } }");
}

/* A client that does not know the capability unsets what it knows */
static void test_left_over(SwVM *vm)
{
    set_both(vm);
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-capabilities', 'arguments':"
              " { 'capabilities': [ { 'capability': 'postcopy-ram',"
              " 'state': false } ] } }");
    migrate_to_nowhere(vm);
    sw_status_wait(vm->mon, "completed");
}

/*
 * Nobody answers whether the other side has the capability, too: meanwhile
 * nothing happens to the guest, and it can be cancelled.
 */
static void test_no_answer(SwVM *vm)
{
    char *dir = sw_tmpdir_new();
    g_autofree char *path = g_strdup_printf("%s/peer", dir);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = sw_listen(path), peer;

    set_both(vm);
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }",
              uri);
    peer = sw_accept(listener, "migration");
    sw_status_wait(vm->mon, "setup");
    g_assert_true(sw_vm_in_state(vm, "prelaunch"));
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(vm->mon, "cancelled");
    close(peer);
    sw_tmpdir_free(dir);
}

static void test_commands(SwVM *vm)
{
    g_autofree char *passes = NULL;
    g_autofree char *nothing = NULL;

    nothing = sw_qmp_error(vm->mon, "{ 'execute': 'migrate-continue',"
                           " 'arguments': { 'state': 'postcopy-ready' } }");
    sw_vm_set_parameter(vm, "postcopy-after-passes", 1);
    passes = sw_qmp_error(vm->mon, "{ 'execute': 'migrate',"
                          " 'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    SW_CHECK(strstr(passes, "postcopy-after-passes") &&
             strstr(passes, "postcopy-ram"), "migrate says: %s", passes);
    g_assert_true(sw_vm_in_state(vm, "prelaunch"));
}

static const struct {
    const char *path;
    void (*test)(SwVM *vm);
} inputs[] = {
    { "capability", test_capability },
    { "left-over", test_left_over },
    { "no-answer", test_no_answer },
    { "commands", test_commands },
};

static void run_input(const void *opaque)
{
    void (*const *test)(SwVM *vm) = opaque;
    char *dir;
    SwVM *vm;

    sw_watchdog_start();
    dir = sw_tmpdir_new();
    vm = sw_vm_new(dir, "vm", NULL, NO_GUEST);
    (*test)(vm);
    sw_vm_free(vm);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

void sw_add_postcopy_input_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SW_READY_SUITE, &cases[i], sw_run_ready_case);
    }
    for (i = 0; i < ARRAY_SIZE(inputs); i++) {
        g_autofree char *path = g_strdup_printf("/" SW_READY_SUITE "/input/%s",
                                                inputs[i].path);

        g_test_add_data_func(path, &inputs[i].test, run_input);
    }
}
