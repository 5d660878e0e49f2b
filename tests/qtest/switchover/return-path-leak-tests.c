/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: attempts that come to nothing, many of them in a row
 *
 * What is left of an attempt is found among the descriptors, threads and
 * children of the two sides, which are counted after the first attempt and
 * after the last.
 *
 * What failing looks like: "more than there were", with the descriptors' names.
 */

#include "qemu/osdep.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/return-path-tests.h"
#include "switchover/transport.h"

/* In the smoke set, and in the full one */
#define FEW_CYCLES 20
#define CYCLES 100

/*
 * What may come and go meanwhile: the main loop's and the disk's descriptors;
 * threads of a pool, which go after some seconds with nothing to do
 */
#define NOISE 4

typedef struct Belongings {
    unsigned descriptors;
    unsigned threads;
    unsigned children;
} Belongings;

static unsigned count_words(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;

    /* The thread may have ended */
    if (!g_file_get_contents(path, &text, NULL, NULL) || !*g_strstrip(text)) {
        return 0;
    }
    words = g_strsplit(text, " ", -1);
    return g_strv_length(words);
}

/* Also those that are dead, and that nobody asked for */
static unsigned count_children(SwVM *vm)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task",
                                             (int)qtest_pid(vm->qts));
    GDir *dir = g_dir_open(tasks, 0, NULL);
    const char *task;
    unsigned n = 0;

    SW_CHECK(dir, "cannot look at %s", tasks);
    while ((task = g_dir_read_name(dir))) {
        g_autofree char *path = g_strdup_printf("%s/%s/children", tasks, task);

        n += count_words(path);
    }
    g_dir_close(dir);
    return n;
}

static Belongings look(SwVM *vm)
{
    return (Belongings) {
        .descriptors = sw_vm_count(vm, "fd"),
        .threads = sw_vm_count(vm, "task"),
        .children = count_children(vm),
    };
}

static char *name_descriptors(SwVM *vm)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd",
                                            (int)qtest_pid(vm->qts));
    GString *names = g_string_new("");
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *fd;

    while (dir && (fd = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(path, fd, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);

        g_string_append_printf(names, " %s", target ?: "?");
    }
    if (dir) {
        g_dir_close(dir);
    }
    return g_string_free(names, false);
}

static bool is_within(const Belongings *now, const Belongings *before)
{
    return now->descriptors <= before->descriptors + NOISE &&
           now->threads <= before->threads + NOISE &&
           now->children <= before->children;
}

/* What is refused stays for a second, so that it can be read why */
static void expect_no_leak(SwVM *vm, Belongings before)
{
    int64_t start_us = sw_now_us();
    Belongings now = look(vm);

    while (!is_within(&now, &before)) {
        g_autofree char *names = NULL;

        if (sw_since_ms(start_us) >= SW_WAIT_MS) {
            names = name_descriptors(vm);
            SW_FAIL("%s: %u descriptors, %u threads, %u children are more than "
                    "there were: %u, %u, %u; open are:%s", vm->name,
                    now.descriptors, now.threads, now.children,
                    before.descriptors, before.threads, before.children, names);
        }
        g_usleep(20 * 1000);
        now = look(vm);
    }
    g_test_message("%s: %u/%u/%u descriptors/threads/children, %u/%u/%u before",
                   vm->name, now.descriptors, now.threads, now.children,
                   before.descriptors, before.threads, before.children);
}

/*
 * Every attempt has the same destination, so it must not have been recognised
 * there: it would be the destination's end.
 */
static void repeat(SwRig *rig, SwStep *start, const char *outcome)
{
    unsigned cycles = rig->c->full ? CYCLES : FEW_CYCLES;
    Belongings src = { 0 }, dst = { 0 };
    unsigned n;

    sw_rig_prepare(rig);
    for (n = 0; n <= cycles; n++) {
        sw_watchdog_start();
        sw_events_forget(rig->src->mon);
        start(rig);
        if (n % 2) {
            sw_guest_wait_beats(rig->src->guest, 1);
        }
        if (g_str_equal(outcome, "cancelled")) {
            sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
        }
        sw_status_wait(rig->src->mon, outcome);
        if (n == 0) {
            src = look(rig->src);
            dst = look(rig->dst);
        }
    }
    expect_no_leak(rig->src, src);
    expect_no_leak(rig->dst, dst);
}

static void start_withheld(SwRig *rig)
{
    sw_proxy_withhold(rig->link_proxy, SW_TO_DESTINATION);
    sw_rig_start(rig);
}

/* What is withheld is not to come any more */
static void repeat_cancelled(SwRig *rig, SwStep *start)
{
    repeat(rig, start, "cancelled");
    sw_proxy_cut(rig->proxy);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_usable(rig);
}

/* With TLS, its handshake stalls, and without, the hello */
static void end_cancelled(SwRig *rig)
{
    repeat_cancelled(rig, start_withheld);
}

/* Connected by somebody else, who hands them over */
static void give(SwRig *rig, const char *name, const char *uri)
{
    int fd = sw_link_stranger(uri, NULL, 0);

    sw_monitor_give_fd(rig->src->mon, name, fd);
    close(fd);
}

static void start_given(SwRig *rig)
{
    sw_proxy_withhold(rig->link_proxy, SW_TO_DESTINATION);
    give(rig, "main", rig->uri);
    give(rig, "link", rig->link);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate', 'arguments': {"
              " 'channels': %p } }", sw_channels("fd:main", "fd:link"));
}

static void end_given(SwRig *rig)
{
    repeat_cancelled(rig, start_given);
}

/* Commands that read what the source writes, and are to be waited for */
static void start_command(SwRig *rig)
{
    sw_proxy_withhold(rig->link_proxy, SW_TO_DESTINATION);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate', 'arguments': {"
              " 'channels': %p } }",
              sw_channels("exec:exec cat >/dev/null", rig->link));
}

static void end_command(SwRig *rig)
{
    repeat_cancelled(rig, start_command);
}

/* The destination does not even get the beginning of a handshake */
static void start_stalled_main(SwRig *rig)
{
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_rig_start(rig);
}

static void end_stalled_main(SwRig *rig)
{
    repeat_cancelled(rig, start_stalled_main);
}

/* The destination says no, every time */
static void end_refused(SwRig *rig)
{
    sw_vm_set_capability(rig->dst, "postcopy-ram");
    repeat(rig, sw_rig_start, "failed");
    sw_vm_set_capability(rig->src, "postcopy-ram");
    sw_link_expect_usable(rig);
}

/* Nobody is there */
static void start_to_nobody(SwRig *rig)
{
    g_autofree char *link = g_strdup_printf("unix:%s/nobody", rig->dir);

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate', 'arguments': {"
              " 'channels': %p } }", sw_channels(rig->uri, link));
}

static void end_nobody(SwRig *rig)
{
    repeat(rig, start_to_nobody, "failed");
    sw_link_expect_usable(rig);
}

/*
 * Cancelled with both channels in use.  That is the end of the destination:
 * there is a new one for each attempt, and only the source is looked at.
 */
static void end_active(SwRig *rig)
{
    Belongings before = { 0 };
    unsigned n;

    for (n = 0; n <= CYCLES; n++) {
        sw_watchdog_start();
        sw_rig_migrate_slowly(rig);
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
        sw_status_wait(rig->src->mon, "cancelled");
        sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
        sw_rig_renew_destination(rig);
        if (n == 0) {
            before = look(rig->src);
        }
    }
    expect_no_leak(rig->src, before);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

static const SwCase cases[] = {
    {
        .path = "cycles/few",
        PRECOPY,
        .proxied = true,
        .end = end_cancelled,
    }, {
        .path = "cycles/cancelled",
        .full = true,
        PRECOPY,
        .proxied = true,
        .end = end_cancelled,
    }, {
        .path = "cycles/fd",
        .full = true,
        PRECOPY,
        .proxied = true,
        .end = end_given,
    }, {
        .path = "cycles/exec",
        .full = true,
        PRECOPY,
        .proxied = true,
        .end = end_command,
    }, {
        .path = "cycles/handshake/link",
        .full = true,
        PRECOPY,
        .proxied = true,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_cancelled,
    }, {
        .path = "cycles/handshake/main",
        .full = true,
        PRECOPY,
        .proxied = true,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_stalled_main,
    }, {
        .path = "cycles/refused",
        .full = true,
        PRECOPY,
        .end = end_refused,
    }, {
        .path = "cycles/nobody",
        .full = true,
        PRECOPY,
        .end = end_nobody,
    }, {
        .path = "cycles/active",
        .full = true,
        PRECOPY,
        .end = end_active,
    },
};

void sw_add_return_path_leak_tests(void)
{
    sw_link_add_cases(cases, ARRAY_SIZE(cases));
}
