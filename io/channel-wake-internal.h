/*
 * A channel that can be woken up: what channels on one master share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef IO_CHANNEL_WAKE_INTERNAL_H
#define IO_CHANNEL_WAKE_INTERNAL_H

#include <poll.h>
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

typedef struct WakeWriter WakeWriter;

typedef struct WakeMaster {
    /* Set at creation */
    QIOChannel *ioc;
    QIOChannel *io;     /* what is read and written: @ioc, or its pipe again */
    int fd[WAKE_DIRECTIONS];            /* of @io, -1 without the direction */
    int found_fd[WAKE_DIRECTIONS];      /* -1, or its O_NONBLOCK was cleared */
    WakeWriter *writer;                 /* what is written, if not NULL */
    bool dontwait;      /* a socket, told in each call that it must not wait */
    bool ask_first;     /* poll() is asked before each read */

    QemuMutex lock;     /* held while in @io; nobody sleeps with it */

    /* Protected by @state_lock */
    QemuMutex state_lock;
    unsigned refs;      /* channels that were not finalized */
    unsigned users;     /* channels that were not closed */
    unsigned alive;     /* channels that are neither closed nor shut down */
    bool closed;
    int64_t terminated_ms;  /* when a command was told to end, or 0 */
} WakeMaster;

/*
 * Sees to it that attempts do not block. The references are those of @users
 * channels.
 */
WakeMaster *wake_master_new(QIOChannel *ioc, unsigned users, Error **errp);

/* A mask of the directions that it has */
unsigned wake_master_directions(const WakeMaster *master);

/* An attempt: QIO_CHANNEL_ERR_BLOCK if it would have to wait */
ssize_t wake_master_readv(WakeMaster *master, const struct iovec *iov,
                          size_t niov, int flags, Error **errp);
ssize_t wake_master_writev(WakeMaster *master, const struct iovec *iov,
                           size_t niov, int flags, Error **errp);

/* What poll() has to look at until an attempt is worth while */
struct pollfd wake_master_pollfd(const WakeMaster *master, WakeDirection dir);

/* For a TLS session, that data was received which nobody has read yet */
bool wake_master_pending(WakeMaster *master);

/* One of the channels was shut down in all its directions */
void wake_master_shut_down(WakeMaster *master);

/* One of the channels is closed, the last one closes the master */
int wake_master_close(WakeMaster *master, bool was_alive, Error **errp);

/* One of the channels is no more */
void wake_master_unref(WakeMaster *master, bool was_closed, bool was_alive);

/*
 * A thread that writes what poll() is of no help for. Any thread may call; none
 * of these waits.
 */
WakeWriter *wake_writer_new(int fd, Error **errp);
void wake_writer_unref(WakeWriter *writer);

/* To be polled for POLLIN: something can be put; all was written */
int wake_writer_room_fd(WakeWriter *writer);
int wake_writer_idle_fd(WakeWriter *writer);

/* Takes what there is room for, or returns QIO_CHANNEL_ERR_BLOCK */
ssize_t wake_writer_put(WakeWriter *writer, const struct iovec *iov,
                        size_t niov, Error **errp);

/* 1: all was written; 0: not yet; -1 with an error: nothing will be */
int wake_writer_is_idle(WakeWriter *writer, Error **errp);

/* What is not written yet is not wanted any more. Once. */
void wake_writer_abandon(WakeWriter *writer);

/*
 * Write what is left, unless it was abandoned, and then close @fd if it is not
 * -1. Once, and always: the thread does not end without.
 */
void wake_writer_close(WakeWriter *writer, int fd);

/* The child of a command. Returns when that was, as the other one wants it. */
int64_t wake_child_terminate(pid_t pid);

/* @pid is given away. @terminated_ms: 0, or the child was told to end. */
void wake_child_reap(pid_t pid, int64_t terminated_ms);

#endif
