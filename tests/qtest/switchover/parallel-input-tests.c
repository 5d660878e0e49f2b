/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a user types about parallel VM state changes, and a
 * worker that does what it must not
 *
 * Unpatched QEMU knows neither the parameter nor the
 * capability: "Parameter 'vmstate-change-threads' is unexpected" says nothing
 * of limits.
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "switchover/harness.h"
#include "switchover/parallel-rig.h"
#include "switchover/parallel-tests.h"

#define NO_GUEST "-machine q35 -m 16 -S"
#define PARAMETER "vmstate-change-threads"
#define CAPABILITY "parallel-vmstate-change"

static void expect_threads(SwVM *vm, int threads)
{
    QDict *now = sw_qmp(vm->mon, "{ 'execute': 'query-migrate-parameters' }");

    g_assert_cmpint(qdict_get_try_int(now, PARAMETER, -1), ==, threads);
    qobject_unref(now);
}

static void expect_refused(SwVM *vm, int threads, const char *says)
{
    g_autofree char *desc = sw_qmp_error(vm->mon,
        "{ 'execute': 'migrate-set-parameters',"
        " 'arguments': { 'vmstate-change-threads': %d } }", threads);

    SW_CHECK(strstr(desc, PARAMETER), "the error does not name it: %s", desc);
    SW_CHECK(!says || strstr(desc, says), "the error lacks '%s': %s", says,
             desc);
}

static void set_threads(SwVM *vm, int threads)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'vmstate-change-threads': %d } }", threads);
    expect_threads(vm, threads);
}

static bool has_capability(SwVM *vm)
{
    QDict *rsp = sw_qmp_rsp(vm->mon,
                            "{ 'execute': 'query-migrate-capabilities' }");
    QListEntry *entry;
    int found = -1;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), entry) {
        QDict *cap = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(cap, "capability"), CAPABILITY)) {
            found = qdict_get_bool(cap, "state");
        }
    }
    qobject_unref(rsp);
    SW_CHECK(found >= 0, "there is no capability " CAPABILITY);
    return found;
}

static void run_with(const char *args, void (*test)(const char *dir, SwVM *vm))
{
    char *dir;
    SwVM *vm;

    sw_watchdog_start();
    dir = sw_tmpdir_new();
    vm = sw_vm_new(dir, "vm", NULL, args);
    test(dir, vm);
    sw_vm_free(vm);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

static void check_values(const char *dir, SwVM *vm)
{
    g_autofree char *text = NULL;

    expect_threads(vm, 0);
    expect_refused(vm, 17, "from 0 to 16");
    expect_refused(vm, -1, NULL);
    expect_threads(vm, 0);
    set_threads(vm, 1);
    set_threads(vm, 16);
    set_threads(vm, 0);
    g_assert_false(has_capability(vm));
    sw_vm_set_capability(vm, CAPABILITY);
    g_assert_true(has_capability(vm));

    text = sw_hmp(vm->mon, "migrate_set_parameter " PARAMETER " 4");
    g_assert_cmpstr(text, ==, "");
    expect_threads(vm, 4);
    g_free(text);
    text = sw_hmp(vm->mon, "migrate_set_parameter " PARAMETER " 17");
    SW_CHECK(strstr(text, PARAMETER), "HMP: %s", text);
    g_free(text);
    text = sw_hmp(vm->mon, "info migrate_parameters");
    SW_CHECK(strstr(text, PARAMETER ": 4"), "HMP: %s", text);
}

static void test_values(void)
{
    run_with(NO_GUEST, check_values);
}

static void check_on_destination(const char *dir, SwVM *vm)
{
    sw_vm_set_capability(vm, CAPABILITY);
    g_assert_true(has_capability(vm));
    set_threads(vm, 3);
    expect_refused(vm, 17, "from 0 to 16");
}

static void test_on_destination(void)
{
    run_with(NO_GUEST " -incoming defer", check_on_destination);
}

/* A peer that takes nothing keeps the migration running */
static void check_during_migration(const char *dir, SwVM *vm)
{
    g_autofree char *path = g_strdup_printf("%s/peer", dir);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = sw_listen(path);
    int peer;

    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'max-bandwidth': 4096, 'downtime-limit': 1 } }");
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': %s } }", uri);
    peer = sw_accept(listener, "migration");
    sw_status_wait(vm->mon, "active");
    expect_refused(vm, 2, "while a migration is running");
    expect_threads(vm, 0);
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(vm->mon, "cancelled");
    close(peer);
}

static void test_during_migration(void)
{
    run_with(NO_GUEST, check_during_migration);
}

/*
 * With the check taken out of bql_lock_impl(), the worker waits for the main
 * loop, which waits for the worker: stop is never answered.
 */
static void run_bql(ParRig *rig)
{
    sw_sim_do(rig->host[0].sim, "latency * serial GET_VRING_BASE:1000");
    qobject_unref(sw_qmp_try(rig->src->mon, "{ 'execute': 'stop' }"));
    g_assert_cmpint(sw_vm_wait_signal(rig->src), ==, SIGABRT);
    par_expect_said(rig, rig->src, "Bug: a VM state change worker tries to "
                    "take the BQL on behalf of device 'disk");
}

static const ParCase bql_case = {
    .path = "bql",
    .threads = 1,
    .preload = "libswitchover-bql-preload.so",
    .run = run_bql,
};

void par_add_input_tests(void)
{
    g_test_add_func("/parallel-vmstate/input/values", test_values);
    g_test_add_func("/parallel-vmstate/input/on-destination",
                    test_on_destination);
    g_test_add_func("/parallel-vmstate/input/during-migration",
                    test_during_migration);
    par_add_case(&bql_case);
}
