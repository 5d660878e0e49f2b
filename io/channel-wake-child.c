/*
 * A channel that can be woken up: the child of a command
 *
 * Theory of operation. A child ends when it likes, and waitpid() neither knows
 * a time limit nor can it be woken up. So who closes the channel does not wait:
 * a thread does, for as long as it takes. A child whose channel was only closed
 * has read the end of its input and may still have something to do; nobody
 * disturbs it. One whose channel was shut down has been told to end by SIGTERM,
 * and by SIGKILL if that was not enough. Not even this ends a child that waits
 * for a disk which does not answer: it is reaped whenever that may be.
 *
 * A pid must not be signalled after it was reaped, as it may then belong to
 * somebody else. It is reaped by this thread only, which starts when the
 * channel is closed, and from then on nobody else has it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "channel-wake-internal.h"
#include "trace.h"

/* From SIGTERM to SIGKILL */
#define TERM_MS 50

typedef struct WakeChild {
    pid_t pid;
    int64_t terminated_ms;
} WakeChild;

static void signal_child(pid_t pid, int sig)
{
    trace_qio_channel_wake_child_signal(pid, sig);
    kill(pid, sig);
}

int64_t wake_child_terminate(pid_t pid)
{
    signal_child(pid, SIGTERM);
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

static bool reap(pid_t pid, int options)
{
    return RETRY_ON_EINTR(waitpid(pid, NULL, options)) != 0;
}

/* True if it has ended within the time that SIGTERM is given */
static bool reap_terminated(const WakeChild *child)
{
    int64_t end_ms = child->terminated_ms + TERM_MS;

    for (unsigned pause_ms = 1; ; pause_ms *= 2) {
        int64_t left_ms = end_ms - qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

        if (reap(child->pid, WNOHANG)) {
            return true;
        }
        if (left_ms <= 0) {
            return false;
        }
        g_usleep(MIN(pause_ms, left_ms) * 1000);
    }
}

static void *reap_child(void *opaque)
{
    g_autofree WakeChild *child = opaque;
    bool reaped = false;

    if (child->terminated_ms) {
        reaped = reap_terminated(child);
        if (!reaped) {
            signal_child(child->pid, SIGKILL);
        }
    }
    if (!reaped) {
        reap(child->pid, 0);
    }
    trace_qio_channel_wake_child_reaped(child->pid);
    return NULL;
}

void wake_child_reap(pid_t pid, int64_t terminated_ms)
{
    WakeChild *child = g_new(WakeChild, 1);
    QemuThread thread;

    *child = (WakeChild) { .pid = pid, .terminated_ms = terminated_ms };
    qemu_thread_create(&thread, "reap-command", reap_child, child,
                       QEMU_THREAD_DETACHED);
}
