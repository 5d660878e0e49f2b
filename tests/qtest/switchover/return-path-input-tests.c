/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a user gives for the return path's channel
 *
 * No guest is needed.  What cannot work is refused with the reason, and nothing
 * has changed then: the next command may be right.
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qobject/qdict.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-tests.h"
#include "switchover/transport.h"

#define SOURCE "-machine q35 -m 16 -S"
#define DESTINATION "-machine q35 -m 16 -S -incoming defer"

typedef struct Refusal {
    /* What is in the way, if anything; "%s" is the directory */
    const char *capability;
    const char *parameter;
    const char *value;
    const char *main;
    const char *link;
    const char *says;
} Refusal;

static const Refusal refusals[] = {
    { NULL, NULL, NULL, NULL, "unix:%s/link", "no main entry" },
    { NULL, NULL, NULL, "unix:%s/main", "exec:cat", "must be a socket" },
    { NULL, NULL, NULL, "unix:%s/main", "file:%s/link", "must be a socket" },
    { NULL, NULL, NULL, "unix:%s/main", "unix:%s/main", "the same address" },
    { NULL, NULL, NULL, "tcp:127.0.0.1:4444", "tcp:127.0.0.1:4444",
      "the same address" },
    { NULL, NULL, NULL, "file:%s/file", "unix:%s/link", "nobody reads a file" },
    { NULL, "tls-creds", "tls", "exec:cat", "unix:%s/link",
      "unset 'tls-creds'" },
    { "x-colo", NULL, NULL, "unix:%s/main", "unix:%s/link", "unset 'x-colo'" },
    { "background-snapshot", NULL, NULL, "unix:%s/main", "unix:%s/link",
      "unset 'background-snapshot'" },
    { "mapped-ram", NULL, NULL, "file:%s/main", "unix:%s/link",
      "unset 'mapped-ram'" },
    { NULL, "mode", "cpr-reboot", "unix:%s/main", "unix:%s/link",
      "set 'mode' to 'normal'" },
};

static char *in_dir(const char *uri, const char *dir)
{
    g_auto(GStrv) parts = NULL;

    if (!uri) {
        return NULL;
    }
    parts = g_strsplit(uri, "%s", -1);
    return g_strjoinv(dir, parts);
}

/* A capability that this machine does not have is not tried */
static bool set_up(SwVM *vm, const Refusal *r)
{
    QDict *rsp;
    bool ok = true;

    if (r->capability) {
        rsp = sw_qmp_try(vm->mon, "{ 'execute': 'migrate-set-capabilities',"
                         " 'arguments': { 'capabilities': ["
                         " { 'capability': %s, 'state': true } ] } }",
                         r->capability);
        ok = qdict_haskey(rsp, "return");
        qobject_unref(rsp);
    }
    if (r->parameter) {
        QDict *params = qdict_new();

        qdict_put_str(params, r->parameter, r->value);
        sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': %p }", params);
    }
    return ok;
}

static void check_refused(const char *args, const char *command,
                          const Refusal *r)
{
    char *dir = sw_tmpdir_new();
    SwVM *vm = sw_vm_new(dir, "vm", NULL, args);
    g_autofree char *main = in_dir(r->main, dir);
    g_autofree char *link = in_dir(r->link, dir);
    g_autofree char *error = NULL;
    g_autofree char *status = NULL;

    if (set_up(vm, r)) {
        error = sw_qmp_error(vm->mon, "{ 'execute': %s, 'arguments': {"
                             " 'channels': %p } }", command,
                             sw_channels(main, link));
        SW_CHECK(strstr(error, r->says), "%s: the error lacks '%s': %s",
                 command, r->says, error);
        status = sw_migration_status(vm);
        g_assert_null(status);
    }
    sw_vm_free(vm);
    sw_tmpdir_free(dir);
}

static void test_refusals(void)
{
    unsigned n;

    for (n = 0; n < ARRAY_SIZE(refusals); n++) {
        sw_watchdog_start();
        check_refused(SOURCE, "migrate", &refusals[n]);
        check_refused(DESTINATION, "migrate-incoming", &refusals[n]);
    }
    sw_watchdog_stop();
}

/* Unpatched QEMU crashes */
static void test_no_main(void)
{
    char *dir;
    SwVM *vm;
    g_autofree char *error = NULL;

    sw_watchdog_start();
    dir = sw_tmpdir_new();
    vm = sw_vm_new(dir, "vm", NULL, SOURCE);
    error = sw_qmp_error(vm->mon, "{ 'execute': 'migrate', 'arguments': {"
                         " 'channels': [ { 'channel-type': 'cpr', 'addr': {"
                         " 'transport': 'socket', 'type': 'unix',"
                         " 'path': '/nowhere' } } ] } }");
    SW_CHECK(strstr(error, "no main entry"), "migrate says: %s", error);
    sw_vm_free(vm);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/*
 * Two QEMUs without a guest
 */

typedef struct Pair {
    char *dir;
    SwVM *src, *dst;
} Pair;

static char *in_pair(Pair *pair, const char *uri)
{
    return in_dir(uri, pair->dir);
}

/* destination: arguments, "%s" is the directory */
static void pair_start(Pair *pair, const char *destination)
{
    g_autofree char *args = NULL;

    sw_watchdog_start();
    pair->dir = sw_tmpdir_new();
    args = in_pair(pair, destination);
    pair->src = sw_vm_new(pair->dir, "src", NULL, SOURCE);
    pair->dst = sw_vm_new(pair->dir, "dst", NULL, args);
}

static void pair_listen(Pair *pair, const char *main, const char *link)
{
    sw_qmp_ok(pair->dst->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'channels': %p } }", sw_channels(main, link));
}

static void pair_wait(Pair *pair)
{
    sw_status_wait(pair->src->mon, "completed");
    sw_status_wait(pair->dst->mon, "completed");
}

static void pair_migrate(Pair *pair, const char *main, const char *link)
{
    sw_qmp_ok(pair->src->mon, "{ 'execute': 'migrate', 'arguments': {"
              " 'channels': %p } }", sw_channels(main, link));
    pair_wait(pair);
}

static void pair_end(Pair *pair)
{
    sw_vm_free(pair->src);
    sw_vm_free(pair->dst);
    sw_tmpdir_free(pair->dir);
    sw_watchdog_stop();
}

static void pair_hmp(Pair *pair, SwVM *vm, const char *command)
{
    g_autofree char *line = in_pair(pair, command);
    g_autofree char *said = sw_hmp(vm->mon, line);

    g_assert_cmpstr(said, ==, "");
}

/* The commands of HMP take a second URI */
static void test_hmp(void)
{
    Pair pair;
    g_autofree char *info = NULL;

    pair_start(&pair, DESTINATION);
    pair_hmp(&pair, pair.dst, "migrate_incoming unix:%s/main unix:%s/link");
    info = sw_hmp(pair.dst->mon, "info migrate");
    SW_CHECK(strstr(info, "return path address: ["), "it says: %s", info);
    pair_hmp(&pair, pair.src, "migrate -d unix:%s/main unix:%s/link");
    pair_wait(&pair);
    pair_end(&pair);
}

/* ... and so does the command line take a second option */
static void test_command_line(void)
{
    Pair pair;
    g_autofree char *main = NULL;
    g_autofree char *link = NULL;

    pair_start(&pair, "-machine q35 -m 16 -S -incoming unix:%s/main"
               " -incoming return-path,addr.transport=socket,addr.type=unix,"
               "addr.path=%s/link");
    main = in_pair(&pair, "unix:%s/main");
    link = in_pair(&pair, "unix:%s/link");
    pair_migrate(&pair, main, link);
    pair_end(&pair);
}

/*
 * Descriptors, as they are handed over by management
 */

static void give(SwVM *vm, const char *name, int fd)
{
    sw_monitor_give_fd(vm->mon, name, fd);
    close(fd);
}

static void make_pipe(int fds[2], bool one_way)
{
    int both[2];

    if (one_way) {
        g_assert(!pipe2(both, O_CLOEXEC));
        fds[0] = both[1];
        fds[1] = both[0];
    } else {
        g_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    }
}

static void migrate_by_descriptors(bool one_way)
{
    Pair pair;
    int main[2], link[2];

    pair_start(&pair, DESTINATION);
    make_pipe(main, one_way);
    make_pipe(link, false);
    give(pair.src, "main", main[0]);
    give(pair.src, "link", link[0]);
    give(pair.dst, "main", main[1]);
    give(pair.dst, "link", link[1]);
    pair_listen(&pair, "fd:main", "fd:link");
    pair_migrate(&pair, "fd:main", "fd:link");
    pair_end(&pair);
}

static void test_sockets(void)
{
    migrate_by_descriptors(false);
}

static void test_pipe(void)
{
    migrate_by_descriptors(true);
}

/* What both sides write to cannot be a pipe */
static void test_no_socket(void)
{
    char *dir;
    SwVM *src;
    g_autofree char *error = NULL;
    int main[2], link[2];

    sw_watchdog_start();
    dir = sw_tmpdir_new();
    src = sw_vm_new(dir, "src", NULL, SOURCE);
    make_pipe(main, false);
    make_pipe(link, true);
    give(src, "main", main[0]);
    give(src, "link", link[0]);
    error = sw_qmp_error(src->mon, "{ 'execute': 'migrate', 'arguments': {"
                         " 'channels': %p } }",
                         sw_channels("fd:main", "fd:link"));
    SW_CHECK(strstr(error, "descriptor 'link' is none"), "migrate says: %s",
             error);
    close(main[1]);
    close(link[1]);
    sw_vm_free(src);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/* An address of query-migrate's, as a URI */
static char *listens_at(SwVM *vm, const char *which)
{
    QDict *info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    QList *list = qdict_get_qlist(info, which);
    char *uri = NULL;

    if (list) {
        QDict *addr = qobject_to(QDict, qlist_peek(list));

        uri = g_strdup_printf("tcp:127.0.0.1:%s", qdict_get_str(addr, "port"));
    }
    qobject_unref(info);
    return uri;
}

/*
 * The destination chooses its ports, and says which.  Unpatched QEMU has no
 * such member.
 */
static void test_any_port(void)
{
    Pair pair;
    g_autofree char *main = NULL;
    g_autofree char *link = NULL;
    g_autofree char *after = NULL;

    pair_start(&pair, DESTINATION);
    pair_listen(&pair, "tcp:127.0.0.1:0", "tcp:127.0.0.1:0");
    main = listens_at(pair.dst, "socket-address");
    link = listens_at(pair.dst, "return-path-address");
    SW_CHECK(main && link, "addresses: %s, %s", main, link);
    pair_migrate(&pair, main, link);
    after = listens_at(pair.dst, "return-path-address");
    SW_CHECK(!after, "it still listens at %s", after);
    pair_end(&pair);
}

void sw_add_return_path_input_tests(void)
{
    g_test_add_func("/" SW_LINK_SUITE "/input/refused", test_refusals);
    g_test_add_func("/" SW_LINK_SUITE "/input/no-main", test_no_main);
    g_test_add_func("/" SW_LINK_SUITE "/fd/sockets", test_sockets);
    g_test_add_func("/" SW_LINK_SUITE "/fd/pipe", test_pipe);
    g_test_add_func("/" SW_LINK_SUITE "/input/any-port", test_any_port);
    g_test_add_func("/" SW_LINK_SUITE "/input/no-socket", test_no_socket);
    g_test_add_func("/" SW_LINK_SUITE "/input/hmp", test_hmp);
    g_test_add_func("/" SW_LINK_SUITE "/input/command-line", test_command_line);
}
