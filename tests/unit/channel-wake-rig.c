/*
 * What the tests for channels that can be woken up have in common
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#ifdef CONFIG_LINUX
#include <sys/fsuid.h>
#endif
#include "channel-wake-rig.h"
#include "io/channel-file.h"
#include "io/channel-socket.h"
#include "qapi/error.h"
#include "qemu/sockets.h"

#define HANG_S 120
#define STRANGER 65534

uint8_t pattern(size_t at)
{
    return at * 7 + at / 251;
}

static void note_error(Job *job, Error *err)
{
    if (err && !job->error) {
        job->error = g_strdup(error_get_pretty(err));
    }
    error_free(err);
}

void *write_job(void *opaque)
{
    Job *job = opaque;
    g_autofree char *buf = g_malloc(job->size);

    for (size_t i = 0; i < job->size; i++) {
        buf[i] = pattern(i);
    }
    qatomic_set(&job->tid, qemu_get_thread_id());
    while (job->done < job->size) {
        Error *err = NULL;

        job->last = qio_channel_write(job->ioc, buf + job->done,
                                      job->size - job->done, &err);
        note_error(job, err);
        job->blocked |= job->last == QIO_CHANNEL_ERR_BLOCK;
        if (job->last <= 0) {
            break;
        }
        qatomic_set(&job->done, job->done + job->last);
    }
    return NULL;
}

void *read_job(void *opaque)
{
    Job *job = opaque;
    char buf[5000];

    qatomic_set(&job->tid, qemu_get_thread_id());
    while (job->done < job->size) {
        Error *err = NULL;

        job->last = qio_channel_read(job->ioc, buf,
                                     MIN(sizeof(buf), job->size - job->done),
                                     &err);
        note_error(job, err);
        job->blocked |= job->last == QIO_CHANNEL_ERR_BLOCK;
        if (job->last <= 0) {
            break;
        }
        for (ssize_t i = 0; i < job->last; i++) {
            job->wrong |= (uint8_t)buf[i] != pattern(job->done + i);
        }
        qatomic_set(&job->done, job->done + job->last);
    }
    return NULL;
}

void job_start(Job *job, void *(*func)(void *), void *ioc, size_t size)
{
    *job = (Job) { .ioc = QIO_CHANNEL(ioc), .size = size };
    qemu_thread_create(&job->thread, "job", func, job, QEMU_THREAD_JOINABLE);
}

void job_join(Job *job)
{
    qemu_thread_join(&job->thread);
    g_assert_false(job->blocked);
    g_assert_false(job->wrong);
}

void job_clear(Job *job)
{
    g_clear_pointer(&job->error, g_free);
}

/* Until the kernel says that it sleeps, which it has no other reason for */
void wait_asleep(int *tid_of_job)
{
    g_autofree char *path = NULL;
    int tid;

    while (!(tid = qatomic_read(tid_of_job))) {
        g_usleep(1000);
    }
    path = g_strdup_printf("/proc/self/task/%d/stat", tid);
    for (;;) {
        g_autofree char *stat = NULL;
        const char *state;

        g_assert_true(g_file_get_contents(path, &stat, NULL, NULL));
        state = strrchr(stat, ')') + 2;
        if (*state == 'S' || *state == 'D') {
            return;
        }
        g_usleep(1000);
    }
}

void job_wait_asleep(Job *job)
{
    wait_asleep(&job->tid);
}

static unsigned count_entries(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static unsigned count_fds(void)
{
    return count_entries("/proc/self/fd");
}

unsigned count_threads(void)
{
    return count_entries("/proc/self/task");
}

bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/*
 * With a limit for all that may hang: threads that write, close or reap may
 * have something left to do when the test is done.
 */
void run_test(const void *opaque)
{
    TestFunc *func = (TestFunc *)opaque;
    unsigned fds = count_fds();
    unsigned threads = count_threads();

    alarm(HANG_S);
    func();
    while (count_fds() != fds || count_threads() != threads ||
           has_children()) {
        g_usleep(1000);
    }
    alarm(0);
}

bool is_nonblocking(int fd)
{
    return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

QIOChannelWake *wake_on(QIOChannel *master)
{
    QIOChannelWake *wioc = qio_channel_wake_new(master, &error_abort);

    object_unref(OBJECT(master));
    return wioc;
}

QIOChannelWake *wake_on_fd(int fd)
{
    return wake_on(QIO_CHANNEL(qio_channel_file_new_fd(fd)));
}

void make_foreign(int fd)
{
    g_assert_cmpint(fchmod(fd, 0), ==, 0);
}

/* Of this thread only: seteuid() would signal the others, who are in write() */
static void open_files_as(uid_t uid)
{
#ifdef CONFIG_LINUX
    if (getuid() == 0) {
        setfsuid(uid);
        g_assert_cmpint(setfsuid(-1), ==, uid);
    }
#endif
}

void become_stranger(void)
{
    open_files_as(STRANGER);
}

void become_owner(void)
{
    open_files_as(0);
}

QIOChannelWake *wake_as_stranger(QIOChannel *master)
{
    QIOChannelWake *wioc;

    become_stranger();
    wioc = wake_on(master);
    become_owner();
    return wioc;
}

void close_and_unref(void *ioc)
{
    qio_channel_close(QIO_CHANNEL(ioc), &error_abort);
    object_unref(OBJECT(ioc));
}

void shut(void *ioc)
{
    qio_channel_shutdown(QIO_CHANNEL(ioc), QIO_CHANNEL_SHUTDOWN_BOTH,
                         &error_abort);
}

void new_pipe(int *fds)
{
    g_assert_true(g_unix_open_pipe(fds, FD_CLOEXEC, NULL));
}

QIOChannel *new_socket(int fd)
{
    return QIO_CHANNEL(qio_channel_socket_new_fd(fd, &error_abort));
}

void new_socketpair(int *fds)
{
    g_assert_cmpint(qemu_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
}

static gboolean watch_fired(QIOChannel *ioc, GIOCondition condition,
                            gpointer opaque)
{
    *(GIOCondition *)opaque = condition;
    return G_SOURCE_REMOVE;
}

GIOCondition wait_for_watch(QIOChannelWake *wioc, GIOCondition condition)
{
    GMainContext *context = g_main_context_new();
    GIOCondition seen = 0;

    qio_channel_add_watch_full(QIO_CHANNEL(wioc), condition, watch_fired,
                               &seen, NULL, context);
    while (!seen) {
        g_main_context_iteration(context, true);
    }
    g_main_context_unref(context);
    return seen;
}
