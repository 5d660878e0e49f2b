/*
 * A channel that can be woken up: the child of a command
 *
 * Theory of operation. waitpid() knows no time limit and cannot be woken up, so
 * a thread sits in it, and who closes the channel waits for an event of that
 * thread, or for one that says that the channel was shut down. In the latter
 * case the child is told to end, at first with SIGTERM, then with SIGKILL. Not
 * even this ends a child that waits for a disk which does not answer: it is
 * left to the thread, which reaps it whenever that may be.
 *
 * A pid must not be signalled after it was reaped, as it may then belong to
 * somebody else. That is what the mutex is for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/lockable.h"
#include "channel-wake-internal.h"
#include "trace.h"

/*
 * From SIGTERM to SIGKILL, and from there until it is left to the thread. Who
 * closes may hold the BQL, and a monitor is to answer within 100 ms.
 */
#define TERM_MS 50
#define KILL_MS 30

struct WakeChild {
    EventNotifier ended;

    /* Protected by @lock */
    QemuMutex lock;
    unsigned refs;
    pid_t pid;          /* 0: was reaped */
};

WakeChild *wake_child_new(pid_t pid)
{
    WakeChild *child = g_new0(WakeChild, 1);

    if (event_notifier_init(&child->ended, 0) < 0) {
        g_free(child);
        return NULL;
    }
    qemu_mutex_init(&child->lock);
    child->refs = 1;
    child->pid = pid;
    return child;
}

static void wake_child_ref(WakeChild *child)
{
    QEMU_LOCK_GUARD(&child->lock);
    child->refs++;
}

void wake_child_unref(WakeChild *child)
{
    bool last;

    WITH_QEMU_LOCK_GUARD(&child->lock) {
        last = --child->refs == 0;
    }
    if (last) {
        event_notifier_cleanup(&child->ended);
        qemu_mutex_destroy(&child->lock);
        g_free(child);
    }
}

static void signal_child(WakeChild *child, int sig)
{
    QEMU_LOCK_GUARD(&child->lock);
    if (child->pid) {
        trace_qio_channel_wake_child_signal(child->pid, sig);
        kill(child->pid, sig);
    }
}

void wake_child_terminate(WakeChild *child)
{
    signal_child(child, SIGTERM);
}

/* Wait with the pid still taken, and free it under the mutex */
static void *reap_child(void *opaque)
{
    WakeChild *child = opaque;
    pid_t pid = child->pid;
    siginfo_t info;
    int ret;

    do {
        ret = waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    } while (ret < 0 && errno == EINTR);

    WITH_QEMU_LOCK_GUARD(&child->lock) {
        waitpid(pid, NULL, WNOHANG);
        child->pid = 0;
    }
    trace_qio_channel_wake_child_reaped(pid);
    event_notifier_set(&child->ended);
    wake_child_unref(child);
    return NULL;
}

/* False if it has not ended within the time, or until there was an event */
static bool wait_ended(WakeChild *child, EventNotifier *const *events,
                       unsigned n_events, int timeout_ms)
{
    struct pollfd fds[1 + WAKE_DIRECTIONS] = {
        { .fd = event_notifier_get_fd(&child->ended), .events = POLLIN },
    };
    int ret;

    assert(n_events <= WAKE_DIRECTIONS);
    for (unsigned i = 0; i < n_events; i++) {
        fds[1 + i] = (struct pollfd) {
            .fd = event_notifier_get_fd(events[i]),
            .events = POLLIN,
        };
    }
    do {
        ret = poll(fds, 1 + n_events, timeout_ms);
    } while (ret < 0 && errno == EINTR);
    return fds[0].revents;
}

void wake_child_wait(WakeChild *child, EventNotifier *const *events,
                     unsigned n_events)
{
    QemuThread thread;

    wake_child_ref(child);
    qemu_thread_create(&thread, "reap-command", reap_child, child,
                       QEMU_THREAD_DETACHED);

    if (wait_ended(child, events, n_events, -1)) {
        return;
    }
    signal_child(child, SIGTERM);
    if (wait_ended(child, NULL, 0, TERM_MS)) {
        return;
    }
    signal_child(child, SIGKILL);
    wait_ended(child, NULL, 0, KILL_MS);
}
