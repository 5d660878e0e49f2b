/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a user types, and what QEMU says to it
 *
 * No guest is needed.  Unpatched QEMU fails all but the last: "Parameter
 * 'drain-timeout' is unexpected" says nothing of limits or of destinations.
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "switchover/harness.h"
#include "switchover/input-tests.h"
#include "switchover/vm.h"

#define NO_GUEST "-machine q35 -m 16 -S"

typedef struct Fixture {
    char *dir;
    SwVM *vm;
} Fixture;

static void fixture_up(Fixture *f, const char *args)
{
    sw_watchdog_start();
    f->dir = sw_tmpdir_new();
    f->vm = sw_vm_new(f->dir, "vm", NULL, args);
}

static void fixture_down(Fixture *f)
{
    sw_vm_free(f->vm);
    sw_tmpdir_free(f->dir);
    sw_watchdog_stop();
}

static QDict *query_parameters(SwVM *vm)
{
    return sw_qmp(vm->mon, "{ 'execute': 'query-migrate-parameters' }");
}

/*
 * Setting @name to the JSON text @value fails with a description that holds
 * @name and, unless NULL, @says; and sets nothing.
 */
static void check_refused(SwVM *vm, const char *name, const char *value,
                          const char *says)
{
    QDict *before = query_parameters(vm), *after;
    g_autofree char *json = g_strdup_printf(
        "{ \"execute\": \"migrate-set-parameters\","
        " \"arguments\": { \"downtime-limit\": 77, \"%s\": %s } }",
        name, value);
    QDict *cmd = qobject_to(QDict, qobject_from_json(json, NULL));
    g_autofree char *desc = sw_qmp_error(vm->mon, "%p", cmd);

    SW_CHECK(strstr(desc, name), "%s=%s: error does not name it: %s",
             name, value, desc);
    SW_CHECK(!says || strstr(desc, says), "%s=%s: error lacks '%s': %s",
             name, value, says, desc);
    after = query_parameters(vm);
    SW_CHECK(qobject_is_equal(QOBJECT(before), QOBJECT(after)),
             "%s=%s was refused and changed parameters", name, value);
    qobject_unref(before);
    qobject_unref(after);
}

static void test_bad_values(void)
{
    Fixture f;

    fixture_up(&f, NO_GUEST);
    check_refused(f.vm, "drain-timeout", "3600001", "3600000");
    check_refused(f.vm, "drain-timeout", "-1", NULL);
    check_refused(f.vm, "drain-timeout", "4294967496", NULL);
    check_refused(f.vm, "drain-timeout", "\"200\"", NULL);
    check_refused(f.vm, "drain-timeout", "true", NULL);
    check_refused(f.vm, "drain-timeout", "200.5", NULL);
    check_refused(f.vm, "drain-timeout-action", "\"bogus\"", NULL);
    check_refused(f.vm, "drain-timeout-action", "1", NULL);
    check_refused(f.vm, "quiesce-window", "0", "from 1 to 1000");
    check_refused(f.vm, "quiesce-window", "1001", "from 1 to 1000");
    check_refused(f.vm, "quiesce-window", "-1", NULL);
    check_refused(f.vm, "quiesce-interval", "3600001", "3600000");
    check_refused(f.vm, "quiesce-interval", "\"500\"", NULL);
    check_refused(f.vm, "quiesce-queue-depth", "65536", "65535");
    check_refused(f.vm, "quiesce-queue-depth", "-1", NULL);
    check_refused(f.vm, "postcopy-after-passes", "1001", "from 0 to 1000");
    check_refused(f.vm, "postcopy-after-passes", "-1", NULL);
    check_refused(f.vm, "postcopy-after-passes", "\"1\"", NULL);
    check_refused(f.vm, "postcopy-ready-timeout", "3600001", "3600000");
    check_refused(f.vm, "postcopy-ready-timeout", "-1", NULL);
    fixture_down(&f);
}

static void check_parameters(SwVM *vm, int timeout_ms, const char *action)
{
    QDict *now = query_parameters(vm);

    g_assert_cmpint(qdict_get_try_int(now, "drain-timeout", -1), ==,
                    timeout_ms);
    g_assert_cmpstr(qdict_get_try_str(now, "drain-timeout-action"), ==,
                    action);
    qobject_unref(now);
}

static void test_good_values(void)
{
    static const struct {
        int timeout_ms;
        const char *action;
    } good[] = { { 3600000, "fail" }, { 1, "retry" }, { 0, "fail" } };
    Fixture f;
    int i;

    fixture_up(&f, NO_GUEST);
    check_parameters(f.vm, 0, "retry");
    for (i = 0; i < ARRAY_SIZE(good); i++) {
        sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'drain-timeout': %d,"
                  " 'drain-timeout-action': %s } }",
                  good[i].timeout_ms, good[i].action);
        check_parameters(f.vm, good[i].timeout_ms, good[i].action);
    }
    fixture_down(&f);
}

/* A peer that takes nothing keeps the migration running */
static void test_during_migration(void)
{
    Fixture f;
    g_autofree char *path = NULL;
    g_autofree char *uri = NULL;
    int listener, peer;

    fixture_up(&f, NO_GUEST);
    path = g_strdup_printf("%s/peer", f.dir);
    uri = g_strdup_printf("unix:%s", path);
    listener = sw_listen(path);
    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'max-bandwidth': 4096,"
              " 'downtime-limit': 1 } }");
    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': %s } }", uri);
    peer = sw_accept(listener, "migration");
    sw_status_wait(f.vm->mon, "active");

    check_refused(f.vm, "drain-timeout", "200", "running");
    check_refused(f.vm, "drain-timeout-action", "\"fail\"", "running");
    check_refused(f.vm, "quiesce-window", "50", "running");
    check_refused(f.vm, "quiesce-interval", "0", "running");
    check_refused(f.vm, "quiesce-queue-depth", "1", "running");
    check_refused(f.vm, "postcopy-after-passes", "1", "running");
    check_refused(f.vm, "postcopy-ready-timeout", "1000", "running");

    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(f.vm->mon, "cancelled");
    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'drain-timeout': 200 } }");
    close(peer);
    fixture_down(&f);
}

static void test_on_destination(void)
{
    Fixture f;

    fixture_up(&f, NO_GUEST " -incoming defer");
    check_refused(f.vm, "drain-timeout", "200", "destination");
    check_refused(f.vm, "drain-timeout-action", "\"fail\"", "destination");
    check_refused(f.vm, "quiesce-window", "50", "destination");
    check_refused(f.vm, "quiesce-interval", "0", "destination");
    check_refused(f.vm, "quiesce-queue-depth", "1", "destination");
    check_refused(f.vm, "postcopy-after-passes", "1", "destination");
    check_refused(f.vm, "postcopy-ready-timeout", "1000", "destination");
    fixture_down(&f);
}

static void set_capability(Fixture *f, const char *name, bool state)
{
    sw_qmp_ok(f->vm->mon, "{ 'execute': 'migrate-set-capabilities',"
              " 'arguments': { 'capabilities': ["
              " { 'capability': %s, 'state': %i } ] } }", name, state);
}

/* Setting "inflight-free-switchover" is refused with its name and @says */
static void check_capability_refused(Fixture *f, const char *says)
{
    g_autofree char *desc = sw_qmp_error(
        f->vm->mon, "{ 'execute': 'migrate-set-capabilities', 'arguments':"
        " { 'capabilities': [ { 'capability': 'inflight-free-switchover',"
        " 'state': true } ] } }");

    SW_CHECK(strstr(desc, "inflight-free-switchover") && strstr(desc, says),
             "the error does not say '%s': %s", says, desc);
}

static void test_capability(void)
{
    Fixture f;

    fixture_up(&f, NO_GUEST);
    set_capability(&f, "inflight-free-switchover", true);
    set_capability(&f, "inflight-free-switchover", false);
    set_capability(&f, "background-snapshot", true);
    check_capability_refused(&f, "background-snapshot");
    fixture_down(&f);

    fixture_up(&f, NO_GUEST " -incoming defer");
    check_capability_refused(&f, "destination");
    set_capability(&f, "inflight-free-switchover", false);
    fixture_down(&f);
}

/* The line of @text that begins with @name, or fail */
static char *line_of(const char *text, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    int i;

    for (i = 0; lines[i]; i++) {
        if (g_str_has_prefix(g_strstrip(lines[i]), name)) {
            return g_strdup(lines[i]);
        }
    }
    SW_FAIL("no line '%s' in: %s", name, text);
}

static void check_hmp_shows(SwVM *vm, const char *name, const char *value)
{
    g_autofree char *text = sw_hmp(vm->mon, "info migrate_parameters");
    g_autofree char *key = g_strdup_printf("%s:", name);
    g_autofree char *line = line_of(text, key);

    SW_CHECK(strstr(line, value), "'%s' does not say '%s'", line, value);
}

static void check_hmp_set(SwVM *vm, const char *name, const char *value)
{
    g_autofree char *cmd = g_strdup_printf("migrate_set_parameter %s %s",
                                           name, value);
    g_autofree char *output = sw_hmp(vm->mon, cmd);

    g_assert_cmpstr(output, ==, "");
    check_hmp_shows(vm, name, value);
}

static void check_hmp_refused(SwVM *vm, const char *name, const char *value)
{
    g_autofree char *cmd = g_strdup_printf("migrate_set_parameter %s %s",
                                           name, value);
    g_autofree char *output = sw_hmp(vm->mon, cmd);

    SW_CHECK(g_str_has_prefix(output, "Error: ") && strstr(output, name),
             "'%s' answers: %s", cmd, output);
}

static void test_hmp(void)
{
    Fixture f;

    fixture_up(&f, NO_GUEST);
    check_hmp_set(f.vm, "drain-timeout", "200");
    check_hmp_set(f.vm, "drain-timeout-action", "fail");
    check_hmp_refused(f.vm, "drain-timeout", "3600001");
    check_hmp_refused(f.vm, "drain-timeout-action", "bogus");
    check_hmp_set(f.vm, "quiesce-window", "50");
    check_hmp_set(f.vm, "quiesce-interval", "0");
    check_hmp_set(f.vm, "quiesce-queue-depth", "4");
    check_hmp_set(f.vm, "postcopy-after-passes", "2");
    check_hmp_set(f.vm, "postcopy-ready-timeout", "5000");
    check_hmp_refused(f.vm, "postcopy-after-passes", "1001");
    check_hmp_refused(f.vm, "quiesce-window", "1001");
    check_hmp_shows(f.vm, "drain-timeout", "200");
    check_hmp_shows(f.vm, "drain-timeout-action", "fail");
    fixture_down(&f);
}

/* A migration to nowhere is enough to have had a switchover */
static void test_hmp_info_migrate(void)
{
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;
    QDict *info;
    Fixture f;

    fixture_up(&f, NO_GUEST);
    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'drain-timeout': 200 } }");
    sw_qmp_ok(f.vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    sw_status_wait(f.vm->mon, "completed");

    info = sw_qmp(f.vm->mon, "{ 'execute': 'query-migrate' }");
    SW_CHECK(qdict_get_qdict(info, "switchover"),
             "query-migrate has no 'switchover'");
    qobject_unref(info);
    text = sw_hmp(f.vm->mon, "info migrate");
    line = line_of(text, "switchover");
    fixture_down(&f);
}

/*
 * NVMe is on the list of devices of which the switchover would have to take
 * care; but its state cannot be migrated, and QEMU must say that before
 * anything else happens.
 */
static void test_nvme(void)
{
    g_autofree char *desc = NULL;
    Fixture f;

    fixture_up(&f, NO_GUEST " -blockdev driver=null-co,node-name=n,"
               "read-zeroes=on -device nvme,serial=1,id=nvme0,drive=n");
    desc = sw_qmp_error(f.vm->mon, "{ 'execute': 'migrate',"
                        " 'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    SW_CHECK(strstr(desc, "nvme"), "the error does not name nvme: %s", desc);
    g_assert_true(sw_vm_in_state(f.vm, "prelaunch"));
    fixture_down(&f);
}

void sw_add_input_tests(void)
{
    g_test_add_func("/switchover/parameters/bad-values", test_bad_values);
    g_test_add_func("/switchover/parameters/good-values", test_good_values);
    g_test_add_func("/switchover/parameters/during-migration",
                    test_during_migration);
    g_test_add_func("/switchover/parameters/on-destination",
                    test_on_destination);
    g_test_add_func("/switchover/parameters/capability", test_capability);
    g_test_add_func("/switchover/hmp/parameters", test_hmp);
    g_test_add_func("/switchover/hmp/info-migrate", test_hmp_info_migrate);
    g_test_add_func("/switchover/nvme-cannot-migrate", test_nvme);
}
