/*
 * A channel that can be woken up: what channels on one master share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef IO_CHANNEL_WAKE_INTERNAL_H
#define IO_CHANNEL_WAKE_INTERNAL_H

#include "io/channel.h"
#include "qemu/event_notifier.h"
#include "qemu/thread.h"

/* Of a channel: reading and writing. An index, 1 << index is the mask. */
typedef enum WakeDirection {
    WAKE_IN,
    WAKE_OUT,
    WAKE_DIRECTIONS,
} WakeDirection;

#define WAKE_MASK_IN (1u << WAKE_IN)
#define WAKE_MASK_OUT (1u << WAKE_OUT)

QEMU_BUILD_BUG_ON(WAKE_MASK_IN != QIO_CHANNEL_SHUTDOWN_READ);
QEMU_BUILD_BUG_ON(WAKE_MASK_OUT != QIO_CHANNEL_SHUTDOWN_WRITE);

typedef struct WakeChild WakeChild;

typedef struct WakeMaster {
    /* Set at creation */
    QIOChannel *ioc;
    QIOChannel *io;     /* what is read and written: @ioc, or its pipe again */
    int fd[WAKE_DIRECTIONS];            /* of @io, -1 without the direction */
    int found_fd[WAKE_DIRECTIONS];      /* -1, or its O_NONBLOCK was cleared */
    WakeChild *child;                   /* NULL if it is no command */

    QemuMutex lock;     /* held while in @io; nobody sleeps with it */

    /* Protected by @state_lock */
    QemuMutex state_lock;
    unsigned refs;      /* channels that were not finalized */
    unsigned users;     /* channels that were not closed */
    unsigned alive;     /* channels that are neither closed nor shut down */
    bool closed;
} WakeMaster;

/* Makes the descriptors non-blocking. The caller is the first reference. */
WakeMaster *wake_master_new(QIOChannel *ioc, unsigned users, Error **errp);

/* A mask of the directions that it has */
unsigned wake_master_directions(const WakeMaster *master);

/* For a TLS session, that data was received which nobody has read yet */
bool wake_master_pending(WakeMaster *master);

/* One of the channels was shut down in all its directions */
void wake_master_shut_down(WakeMaster *master);

/*
 * One of the channels is closed, the last one closes the master. A command is
 * waited for as long as none of @events is set.
 */
int wake_master_close(WakeMaster *master, bool was_alive,
                      EventNotifier *const *events, unsigned n_events,
                      Error **errp);

/* One of the channels is no more */
void wake_master_unref(WakeMaster *master, bool was_closed, bool was_alive);

/*
 * The child of a command. It is never waited for without a limit once somebody
 * wants it to end, and it is always reaped.
 */
WakeChild *wake_child_new(pid_t pid);
void wake_child_unref(WakeChild *child);
void wake_child_terminate(WakeChild *child);
void wake_child_wait(WakeChild *child, EventNotifier *const *events,
                     unsigned n_events);

#endif
