/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a process that lives no longer than the test
 */

#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/wait.h>
#include "switchover/child.h"
#include "switchover/harness.h"

struct SwChild {
    pid_t pid;          /* 0 once reaped */
    char *name;
};

static GSList *children;

static void in_the_child(gpointer opaque)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

bool sw_child_alive(SwChild *child)
{
    if (child->pid && waitpid(child->pid, NULL, WNOHANG) == child->pid) {
        child->pid = 0;
    }
    return child->pid != 0;
}

static bool child_gone(void *opaque)
{
    return !sw_child_alive(opaque);
}

void sw_children_kill(void)
{
    GSList *item;

    for (item = children; item; item = item->next) {
        SwChild *child = item->data;

        if (sw_child_alive(child)) {
            kill(-child->pid, SIGKILL);
        }
    }
}

static void kill_on_abort(void *opaque)
{
    sw_children_kill();
}

static bool wait_for_pidfile(SwChild *child, const char *pidfile)
{
    int64_t start_us = sw_now_us();

    while (sw_child_alive(child) && sw_since_ms(start_us) < SW_WAIT_MS) {
        if (g_file_test(pidfile, G_FILE_TEST_EXISTS)) {
            return true;
        }
        g_usleep(2000);
    }
    return false;
}

SwChild *sw_child_new(const char *const *argv, const char *pidfile, char **why)
{
    g_autoptr(GError) err = NULL;
    SwChild *child = g_new0(SwChild, 1);

    if (!g_spawn_async(NULL, (char **)argv, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                       G_SPAWN_STDOUT_TO_DEV_NULL,
                       in_the_child, NULL, &child->pid, &err)) {
        *why = g_strdup(err->message);
        g_free(child);
        return NULL;
    }
    child->name = g_path_get_basename(argv[0]);
    children = g_slist_prepend(children, child);
    qtest_add_abrt_handler(kill_on_abort, child);

    if (pidfile && !wait_for_pidfile(child, pidfile)) {
        *why = g_strdup_printf("%s did not get ready", child->name);
        sw_child_free(child);
        return NULL;
    }
    return child;
}

static bool thread_is_stopped(const char *tasks, const char *tid)
{
    g_autofree char *path = g_build_filename(tasks, tid, "stat", NULL);
    g_autofree char *stat = NULL;
    const char *name_end;

    /* A thread that is not there any more does nothing */
    if (!g_file_get_contents(path, &stat, NULL, NULL)) {
        return true;
    }
    name_end = strrchr(stat, ')');
    return name_end && g_str_has_prefix(name_end, ") T");
}

/* A thread on another CPU takes a moment to notice */
static bool child_is_stopped(void *opaque)
{
    SwChild *child = opaque;
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", (int)child->pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    const char *tid;

    while (dir && (tid = g_dir_read_name(dir))) {
        if (!thread_is_stopped(tasks, tid)) {
            return false;
        }
    }
    return true;
}

void sw_child_freeze(SwChild *child)
{
    g_autofree char *what = g_strdup_printf("%s to stop", child->name);

    SW_CHECK(sw_child_alive(child), "%s is gone", child->name);
    kill(-child->pid, SIGSTOP);
    sw_wait_until(child_is_stopped, child, SW_WAIT_MS, what);
}

void sw_child_thaw(SwChild *child)
{
    SW_CHECK(sw_child_alive(child), "%s is gone", child->name);
    kill(-child->pid, SIGCONT);
}

static void end_child(SwChild *child, int signum)
{
    if (sw_child_alive(child)) {
        g_autofree char *what = g_strdup_printf("%s to end", child->name);

        kill(-child->pid, signum);
        sw_wait_until(child_gone, child, SW_WAIT_MS, what);
    }
}

void sw_child_kill(SwChild *child)
{
    end_child(child, SIGKILL);
}

void sw_child_free(SwChild *child)
{
    if (!child) {
        return;
    }
    end_child(child, SIGTERM);
    qtest_remove_abrt_handler(child);
    children = g_slist_remove(children, child);
    g_free(child->name);
    g_free(child);
}
