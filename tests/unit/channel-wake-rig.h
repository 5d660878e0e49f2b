/*
 * What the tests for channels that can be woken up have in common
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CHANNEL_WAKE_RIG_H
#define CHANNEL_WAKE_RIG_H

#include "io/channel-wake.h"
#include "qemu/thread.h"

#define MIB (1024 * 1024)

/* A thread that reads or writes until there is nothing more to be done */
typedef struct Job {
    QIOChannel *ioc;
    size_t size;

    QemuThread thread;
    int tid;                /* atomic */

    /* When it was joined */
    size_t done;            /* atomic for who looks at it earlier */
    ssize_t last;           /* what the last call returned */
    bool blocked;           /* one of them returned ERR_BLOCK */
    bool wrong;             /* read what was not written */
    char *error;
} Job;

/* What is written, and expected, at a place of the stream */
uint8_t pattern(size_t at);

void *write_job(void *opaque);
void *read_job(void *opaque);
void job_start(Job *job, void *(*func)(void *), void *ioc, size_t size);
void job_join(Job *job);
void job_clear(Job *job);

/* Until the kernel says that it sleeps, which it has no other reason for */
void wait_asleep(int *tid_of_job);
void job_wait_asleep(Job *job);

/* Leaves no descriptor, thread or child behind, or hangs until the alarm */
typedef void TestFunc(void);
void run_test(const void *opaque);

void channel_wake_add_kinds_tests(void);

unsigned count_threads(void);
bool has_children(void);
bool is_nonblocking(int fd);

void new_pipe(int *fds);
void new_socketpair(int *fds);
QIOChannel *new_socket(int fd);

/*
 * A pipe of somebody else, which cannot be opened again: nobody but who can do
 * everything may, and that is what root is not while it is a stranger.
 */
void make_foreign(int fd);
void become_stranger(void);
void become_owner(void);
QIOChannelWake *wake_as_stranger(QIOChannel *master);

/* These drop the caller's reference of @master */
QIOChannelWake *wake_on(QIOChannel *master);
QIOChannelWake *wake_on_fd(int fd);

void shut(void *ioc);
void close_and_unref(void *ioc);
GIOCondition wait_for_watch(QIOChannelWake *wioc, GIOCondition condition);

#endif
