/*
 * Tests for channels that can be woken up, and for TLS sessions for one thread
 *
 * Nothing here is about speed: what does not wake up hangs, and the alarm ends
 * the test. Each test leaves as many descriptors and children as it found.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "channel-wake-rig.h"
#include "crypto/init.h"
#include "crypto/tls-session-use.h"
#include "crypto/tlscredspsk.h"
#include "io/channel-command.h"
#include "io/channel-file.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"

/* Of a race between a thread that goes to sleep and one that wakes it up */
#define ROUNDS 3000
#define ROUNDS_US (5 * G_USEC_PER_SEC)

/*
 * A reader that stalls: the writer has filled the pipe and sleeps. Without the
 * event in poll(), or with a master that blocks, the join hangs.
 */
static void test_write_stalled(void)
{
    QIOChannelWake *wioc;
    int64_t start_us;
    Job job;
    int fds[2], queued;

    new_pipe(fds);
    wioc = wake_on_fd(fds[1]);
    job_start(&job, write_job, wioc, MIB);
    do {
        g_usleep(1000);
        g_assert_cmpint(ioctl(fds[0], FIONREAD, &queued), ==, 0);
    } while (queued < 65536);
    job_wait_asleep(&job);

    start_us = g_get_monotonic_time();
    shut(wioc);
    job_join(&job);
    g_test_message("woken up after %" PRId64 " us",
                   g_get_monotonic_time() - start_us);
    g_assert_cmpint(job.done, ==, 65536);
    g_assert_cmpint(job.last, ==, -1);
    g_assert_cmpstr(job.error, ==, "Channel was shut down");
    job_clear(&job);

    close_and_unref(wioc);
    close(fds[0]);
}

/* As above. After the shutdown there is the end of file, for good. */
static void test_read_idle(void)
{
    QIOChannelWake *wioc;
    Job job;
    int fds[2];

    new_pipe(fds);
    wioc = wake_on_fd(fds[0]);
    job_start(&job, read_job, wioc, 1);
    job_wait_asleep(&job);
    shut(wioc);
    job_join(&job);
    g_assert_cmpint(job.last, ==, 0);
    g_assert_null(job.error);

    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    job_start(&job, read_job, wioc, 1);
    job_join(&job);
    g_assert_cmpint(job.last, ==, 0);

    close_and_unref(wioc);
    close(fds[1]);
}

/*
 * Shutdown at any moment of a read. If a reader cleared the event before it
 * sleeps, one of the rounds would hang.
 */
static void test_race(void)
{
    int64_t end_us = g_get_monotonic_time() + ROUNDS_US;

    /* A busy host takes long for a new thread */
    for (int i = 0; i < ROUNDS && g_get_monotonic_time() < end_us; i++) {
        QIOChannelWake *wioc;
        Job job;
        int fds[2];

        new_pipe(fds);
        wioc = wake_on_fd(fds[0]);
        job_start(&job, read_job, wioc, 1);
        while (!qatomic_read(&job.tid)) {
            g_thread_yield();
        }
        for (int j = 0; j < i % 300; j++) {
            cpu_relax();
        }
        shut(wioc);
        job_join(&job);
        g_assert_cmpint(job.last, ==, 0);
        close_and_unref(wioc);
        close(fds[1]);
    }
}

/* More than fits: threads wait on both sides, and are told nothing of it */
static void test_stream(void)
{
    QIOChannelWake *in, *out;
    Job reader, writer;
    int fds[2];

    new_pipe(fds);
    in = wake_on_fd(fds[0]);
    out = wake_on_fd(fds[1]);
    job_start(&reader, read_job, in, 16 * MIB);
    job_start(&writer, write_job, out, 16 * MIB);
    job_join(&writer);
    job_join(&reader);
    g_assert_cmpint(writer.done, ==, 16 * MIB);
    g_assert_cmpint(reader.done, ==, 16 * MIB);

    /* The end of the other side is noticed while nothing happens */
    g_assert_false(qio_channel_wake_hung_up(in));
    job_start(&reader, read_job, in, 1);
    job_wait_asleep(&reader);
    close_and_unref(out);
    job_join(&reader);
    g_assert_cmpint(reader.last, ==, 0);
    g_assert_true(qio_channel_wake_hung_up(in));
    close_and_unref(in);
}

/*
 * Others have the same pipe, and expect it to block. If it was not opened again
 * it would not, and the first assertion fails; where that is not possible, as
 * for a socket, the second one fails if the mode is not put back.
 */
static void test_mode_of_pipe(void)
{
    QIOChannelWake *wioc;
    int fds[2], shared;
    char c;

    new_pipe(fds);
    shared = dup(fds[1]);
    wioc = wake_on_fd(fds[1]);
    g_assert_false(is_nonblocking(shared));
    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(wioc), "x", 1, NULL), ==, 1);
    g_assert_false(is_nonblocking(shared));
    qio_channel_close(QIO_CHANNEL(wioc), &error_abort);

    g_assert_false(is_nonblocking(shared));
    g_assert_cmpint(write(shared, "y", 1), ==, 1);
    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    g_assert_cmpint(c, ==, 'x');
    g_assert_cmpint(read(fds[0], &c, 1), ==, 1);
    g_assert_cmpint(c, ==, 'y');

    /* Nobody is left to keep it open */
    close(shared);
    g_assert_cmpint(read(fds[0], &c, 1), ==, 0);
    object_unref(OBJECT(wioc));
    close(fds[0]);
}

static void assert_refused(QIOChannel *master, const char *text)
{
    Error *err = NULL;

    g_assert_null(qio_channel_wake_new(master, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), text));
    error_free(err);
}

/* The next file that would be opened after @n others cannot be */
static struct rlimit limit_files(int n)
{
    struct rlimit before, limited;
    int fds[8];

    g_assert_cmpint(n, <, ARRAY_SIZE(fds));
    for (int i = 0; i <= n; i++) {
        fds[i] = dup(STDIN_FILENO);
    }
    for (int i = 0; i <= n; i++) {
        close(fds[i]);
    }
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    limited = before;
    limited.rlim_cur = fds[n];
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limited), ==, 0);
    return before;
}

/*
 * For want of descriptors there are neither the events, nor the pipe again or
 * the thread that would be needed instead. Nothing has changed then.
 */
static void test_want_of_descriptors(void)
{
    static const char *const message[] = {
        "Cannot create an event",
        "Cannot create an event",
        "Cannot duplicate",
        "Cannot create an event",
        "Cannot create an event",
    };
    QIOChannelWake *wioc;
    struct rlimit before;
    QIOChannel *master;
    int fds[2], shared;

    new_pipe(fds);
    shared = dup(fds[1]);
    make_foreign(fds[1]);
    master = QIO_CHANNEL(qio_channel_file_new_fd(fds[1]));
    for (int i = 0; i < ARRAY_SIZE(message); i++) {
        before = limit_files(i);
        become_stranger();
        assert_refused(master, message[i]);
        become_owner();
        setrlimit(RLIMIT_NOFILE, &before);
        g_assert_false(is_nonblocking(shared));
    }
    limit_files(ARRAY_SIZE(message));
    wioc = wake_as_stranger(master);
    setrlimit(RLIMIT_NOFILE, &before);

    close_and_unref(wioc);
    close(shared);
    close(fds[0]);
}

static QCryptoTLSCreds *new_creds(const char *dir, const char *endpoint)
{
    return QCRYPTO_TLS_CREDS(object_new_with_props(
        TYPE_QCRYPTO_TLS_CREDS_PSK, object_get_objects_root(), endpoint,
        &error_abort, "endpoint", endpoint, "dir", dir, "priority", "NORMAL",
        NULL));
}

typedef struct Handshake {
    bool finished;
} Handshake;

static void handshake_done(QIOTask *task, gpointer opaque)
{
    Handshake *handshake = opaque;

    g_assert_false(qio_task_propagate_error(task, NULL));
    handshake->finished = true;
}

static void shake_hands(QIOChannelTLS **tls)
{
    Handshake handshake[2] = { };

    for (int i = 0; i < 2; i++) {
        qio_channel_set_blocking(QIO_CHANNEL(tls[i]), false, &error_abort);
        qio_channel_tls_handshake(tls[i], handshake_done, &handshake[i], NULL,
                                  NULL);
    }
    while (!handshake[0].finished || !handshake[1].finished) {
        g_main_context_iteration(NULL, true);
    }
}

/* A connection with small buffers, so that every write has to wait */
static void new_tls(QIOChannelTLS **tls)
{
    g_autofree char *dir = g_dir_make_tmp("test-channel-wake-XXXXXX", NULL);
    g_autofree char *keys = g_build_filename(dir, "keys.psk", NULL);
    const char *key = "qemu:009d5638c40fde0c\n";
    QCryptoTLSCreds *creds[2];
    QIOChannel *ioc[2];
    int fds[2], small = 4096;

    g_assert_true(g_file_set_contents(keys, key, -1, NULL));
    creds[0] = new_creds(dir, "server");
    creds[1] = new_creds(dir, "client");

    new_socketpair(fds);
    for (int i = 0; i < 2; i++) {
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        ioc[i] = new_socket(fds[i]);
    }
    tls[0] = qio_channel_tls_new_server(ioc[0], creds[0], NULL, &error_abort);
    tls[1] = qio_channel_tls_new_client(ioc[1], creds[1], NULL, &error_abort);
    shake_hands(tls);

    for (int i = 0; i < 2; i++) {
        object_unref(OBJECT(ioc[i]));
        object_unparent(OBJECT(creds[i]));
    }
    unlink(keys);
    rmdir(dir);
}

/*
 * Each attempt is told not to wait. Without, nonblocking == false hangs where
 * there is nothing to be read, and where the peer takes nothing.
 */
static void test_mode_of_socket(void)
{
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        g_autofree char *buf = g_malloc0(MIB);
        QIOChannelWake *wioc;
        QIOChannel *ioc;
        ssize_t ret;
        int fds[2], shared;

        new_socketpair(fds);
        shared = dup(fds[0]);
        g_unix_set_fd_nonblocking(shared, nonblocking, NULL);
        wioc = wake_on(new_socket(fds[0]));
        ioc = QIO_CHANNEL(wioc);
        qio_channel_set_blocking(ioc, false, &error_abort);
        g_assert_cmpint(is_nonblocking(shared), ==, nonblocking);

        g_assert_cmpint(qio_channel_read(ioc, buf, 1, &error_abort), ==,
                        QIO_CHANNEL_ERR_BLOCK);
        do {
            ret = qio_channel_write(ioc, buf, MIB, &error_abort);
        } while (ret > 0);
        g_assert_cmpint(ret, ==, QIO_CHANNEL_ERR_BLOCK);
        g_assert_cmpint(is_nonblocking(shared), ==, nonblocking);

        close_and_unref(wioc);
        g_assert_cmpint(is_nonblocking(shared), ==, nonblocking);
        close(shared);
        close(fds[1]);
    }
}

/*
 * As before, but nobody is told not to wait, as it is the session that calls.
 * If the mode is not put back, the last assertion fails.
 */
static void do_test_mode_of_tls(bool nonblocking, bool closes)
{
    QIOChannelTLS *tls[2];
    QIOChannelWake *wioc;
    int shared;

    new_tls(tls);
    shared = dup(QIO_CHANNEL_SOCKET(tls[0]->master)->fd);
    g_unix_set_fd_nonblocking(shared, nonblocking, NULL);
    wioc = wake_on(QIO_CHANNEL(tls[0]));
    g_assert_true(is_nonblocking(shared));
    qio_channel_set_blocking(QIO_CHANNEL(wioc), true, &error_abort);
    g_assert_true(is_nonblocking(shared));

    if (closes) {
        qio_channel_close(QIO_CHANNEL(wioc), &error_abort);
    }
    object_unref(OBJECT(wioc));
    g_assert_cmpint(is_nonblocking(shared), ==, nonblocking);
    close(shared);
    close_and_unref(tls[1]);
}

static void test_mode_of_tls(void)
{
    for (int i = 0; i < 4; i++) {
        do_test_mode_of_tls(i & 1, i & 2);
    }
}

typedef struct Waiter {
    QIOChannelWake *wioc;
    GIOCondition condition;
    int timeout_ms;

    QemuThread thread;
    int tid;            /* atomic */
    int ret;            /* when it was joined */
} Waiter;

static void *wait_job(void *opaque)
{
    Waiter *waiter = opaque;

    qatomic_set(&waiter->tid, qemu_get_thread_id());
    waiter->ret = qio_channel_wake_wait(waiter->wioc, waiter->condition,
                                        waiter->timeout_ms);
    return NULL;
}

static void waiter_start(Waiter *waiter)
{
    waiter->tid = 0;
    qemu_thread_create(&waiter->thread, "waiter", wait_job, waiter,
                       QEMU_THREAD_JOINABLE);
    wait_asleep(&waiter->tid);
}

static int waiter_join(Waiter *waiter)
{
    qemu_thread_join(&waiter->thread);
    return waiter->ret;
}

/*
 * Each of the three answers, in both directions. A wait without an end hangs if
 * it is told nothing.
 */
static void test_wait(void)
{
    g_autofree char *buf = g_malloc0(MIB);
    Waiter waiter = { .timeout_ms = -1 };
    QIOChannelWake *wioc;
    int64_t start_us;
    int fds[2];
    char c;

    new_socketpair(fds);
    wioc = waiter.wioc = wake_on(new_socket(fds[0]));
    qio_channel_set_blocking(QIO_CHANNEL(wioc), false, &error_abort);

    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_IN, 0), ==, 0);
    start_us = g_get_monotonic_time();
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_IN, 30), ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - start_us, >=, 29 * 1000);
    waiter.condition = G_IO_IN;
    waiter_start(&waiter);
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    g_assert_cmpint(waiter_join(&waiter), ==, 1);

    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, -1), ==, 1);
    while (qio_channel_write(QIO_CHANNEL(wioc), buf, MIB, &error_abort) > 0) {
        continue;
    }
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, 0), ==, 0);
    waiter.condition = G_IO_OUT;
    waiter_start(&waiter);
    while (recv(fds[1], buf, MIB, MSG_DONTWAIT) > 0) {
        continue;
    }
    g_assert_cmpint(waiter_join(&waiter), ==, 1);

    /* Ready or not: a byte is still there, and the other direction goes on */
    qio_channel_shutdown(QIO_CHANNEL(wioc), QIO_CHANNEL_SHUTDOWN_READ,
                         &error_abort);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_IN, -1), ==, -1);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_OUT, -1), ==, 1);
    while (qio_channel_write(QIO_CHANNEL(wioc), buf, MIB, &error_abort) > 0) {
        continue;
    }
    waiter_start(&waiter);
    shut(wioc);
    g_assert_cmpint(waiter_join(&waiter), ==, -1);
    g_assert_cmpint(qio_channel_read(QIO_CHANNEL(wioc), &c, 1, &error_abort),
                    ==, 0);

    close_and_unref(wioc);
    close(fds[1]);
}

static void do_nothing(int sig)
{
}

/*
 * A signal is no answer: it would be one of being ready. And if the time began
 * anew with every signal, the wait would not end.
 */
static void test_wait_signals(void)
{
    struct sigaction action = { .sa_handler = do_nothing }, before;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
                              .sigev_signo = SIGUSR2 };
    struct itimerspec often = { { 0, 5 * SCALE_MS }, { 0, 5 * SCALE_MS } };
    QIOChannelWake *wioc;
    timer_t timer;
    int fds[2];

    new_pipe(fds);
    wioc = wake_on_fd(fds[0]);
    sigaction(SIGUSR2, &action, &before);
    g_assert_cmpint(timer_create(CLOCK_MONOTONIC, &event, &timer), ==, 0);
    timer_settime(timer, 0, &often, NULL);
    g_assert_cmpint(qio_channel_wake_wait(wioc, G_IO_IN, 100), ==, 0);
    timer_delete(timer);
    sigaction(SIGUSR2, &before, NULL);
    close_and_unref(wioc);
    close(fds[1]);
}

static void coroutine_fn try_in_coroutine(void *opaque)
{
    QIOChannel *ioc = opaque;
    char c;

    g_assert_cmpint(qio_channel_read(ioc, &c, 1, &error_abort), ==,
                    QIO_CHANNEL_ERR_BLOCK);
}

/* Where one must not sleep. If it is wrong, the test hangs. */
static void test_nonblocking(void)
{
    QIOChannelWake *wioc;
    int fds[2];
    char c;

    new_pipe(fds);
    wioc = wake_on_fd(fds[0]);
    qemu_coroutine_enter(qemu_coroutine_create(try_in_coroutine, wioc));

    qio_channel_set_blocking(QIO_CHANNEL(wioc), false, &error_abort);
    g_assert_cmpint(qio_channel_read(QIO_CHANNEL(wioc), &c, 1, &error_abort),
                    ==, QIO_CHANNEL_ERR_BLOCK);
    close_and_unref(wioc);
    close(fds[1]);
}

static void coroutine_fn read_in_coroutine(void *opaque)
{
    Job *job = opaque;

    read_job(job);
    g_assert_true(job->blocked);
    qio_channel_yield(job->ioc, G_IO_IN);
    job->blocked = false;
    read_job(job);
    qatomic_set(&job->size, 0);
}

static void *shut_job(void *opaque)
{
    shut(opaque);
    return NULL;
}

/* A coroutine waits in the main loop; another thread shuts it down */
static void test_yield(void)
{
    QIOChannelWake *wioc;
    QemuThread thread;
    Job job;
    int fds[2];

    new_pipe(fds);
    wioc = wake_on_fd(fds[0]);
    job = (Job) { .ioc = QIO_CHANNEL(wioc), .size = 1 };
    qemu_coroutine_enter(qemu_coroutine_create(read_in_coroutine, &job));
    qemu_thread_create(&thread, "shut", shut_job, wioc, QEMU_THREAD_JOINABLE);
    while (qatomic_read(&job.size)) {
        main_loop_wait(false);
    }
    qemu_thread_join(&thread);
    g_assert_false(job.blocked);
    g_assert_cmpint(job.last, ==, 0);
    close_and_unref(wioc);
    close(fds[1]);
}

static void test_watch(void)
{
    QIOChannelWake *wioc;
    QemuThread thread;
    int fds[2];

    new_socketpair(fds);
    wioc = wake_on(new_socket(fds[0]));
    g_assert_cmpint(wait_for_watch(wioc, G_IO_OUT), ==, G_IO_OUT);
    g_assert_cmpint(wait_for_watch(wioc, G_IO_IN | G_IO_OUT), ==, G_IO_OUT);
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    g_assert_cmpint(wait_for_watch(wioc, G_IO_IN), ==, G_IO_IN);
    g_assert_cmpint(wait_for_watch(wioc, G_IO_IN | G_IO_OUT), ==,
                    G_IO_IN | G_IO_OUT);
    close_and_unref(wioc);
    close(fds[1]);

    new_pipe(fds);
    wioc = wake_on_fd(fds[0]);
    qemu_thread_create(&thread, "shut", shut_job, wioc, QEMU_THREAD_JOINABLE);
    g_assert_cmpint(wait_for_watch(wioc, G_IO_IN | G_IO_HUP), ==,
                    G_IO_IN | G_IO_HUP);
    qemu_thread_join(&thread);
    close_and_unref(wioc);
    close(fds[1]);
}

static void new_halves(QIOChannel *master, QIOChannelWake **in,
                       QIOChannelWake **out)
{
    g_assert_true(qio_channel_wake_new_pair(master, in, out, &error_abort));
    object_unref(OBJECT(master));
}

static void assert_open(int peer)
{
    char c;

    g_assert_cmpint(recv(peer, &c, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
}

/* Waits for it */
static void assert_end(int peer)
{
    char c;

    g_assert_cmpint(read(peer, &c, 1), ==, 0);
}

static void write_to(QIOChannelWake *out, int peer)
{
    char c;

    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(out), "x", 1, &error_abort),
                    ==, 1);
    g_assert_cmpint(read(peer, &c, 1), ==, 1);
}

/*
 * A reader waits all the time; if it did so with the mutex, the write would
 * hang. The end of reading must not be seen by the peer, which still is told
 * something: if the half passed its shutdown on, write_to() fails.
 */
static void test_halves(void)
{
    QIOChannelWake *in, *out;
    Error *err = NULL;
    Job job;
    int fds[2];

    new_socketpair(fds);
    new_halves(new_socket(fds[0]), &in, &out);
    job_start(&job, read_job, in, 1);
    job_wait_asleep(&job);
    write_to(out, fds[1]);

    shut(in);
    job_join(&job);
    g_assert_cmpint(job.last, ==, 0);
    assert_open(fds[1]);
    write_to(out, fds[1]);

    g_assert_cmpint(qio_channel_write(QIO_CHANNEL(in), "x", 1, &err), ==, -1);
    error_free_or_abort(&err);
    g_assert_cmpint(qio_channel_read(QIO_CHANNEL(out), (char *)&job, 1, &err),
                    ==, -1);
    error_free_or_abort(&err);

    close_and_unref(out);
    assert_open(fds[1]);
    close_and_unref(in);
    assert_end(fds[1]);
    close(fds[1]);
}

/* Whichever is closed last closes the socket; neither is too early */
static void test_close_order(void)
{
    for (int first = 0; first < 2; first++) {
        QIOChannelWake *half[2];
        int fds[2];

        new_socketpair(fds);
        new_halves(new_socket(fds[0]), &half[0], &half[1]);
        qio_channel_close(QIO_CHANNEL(half[first]), &error_abort);
        qio_channel_close(QIO_CHANNEL(half[first]), &error_abort);
        assert_open(fds[1]);
        if (first == 0) {
            write_to(half[1], fds[1]);
        }
        close_and_unref(half[!first]);
        assert_end(fds[1]);
        object_unref(OBJECT(half[first]));
        close(fds[1]);
    }
}

/* The peer learns of it without a close, which may come much later */
static void test_shutdown_of_all(void)
{
    QIOChannelWake *in, *out, *both;
    int fds[2];

    new_socketpair(fds);
    new_halves(new_socket(fds[0]), &in, &out);
    shut(out);
    assert_open(fds[1]);
    g_assert_false(qio_channel_wake_hung_up(in));
    shut(in);
    assert_end(fds[1]);
    close_and_unref(in);
    close_and_unref(out);
    close(fds[1]);

    new_socketpair(fds);
    both = wake_on(new_socket(fds[0]));
    qio_channel_shutdown(QIO_CHANNEL(both), QIO_CHANNEL_SHUTDOWN_READ,
                         &error_abort);
    write_to(both, fds[1]);
    shut(both);
    assert_end(fds[1]);
    close_and_unref(both);
    close(fds[1]);
}

static void test_hung_up(void)
{
    QIOChannelWake *wioc;
    int fds[2];

    new_socketpair(fds);
    wioc = wake_on(new_socket(fds[0]));
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    g_assert_false(qio_channel_wake_hung_up(wioc));
    close(fds[1]);
    g_assert_true(qio_channel_wake_hung_up(wioc));
    close_and_unref(wioc);

    new_pipe(fds);
    wioc = wake_on_fd(fds[1]);
    g_assert_false(qio_channel_wake_hung_up(wioc));
    close(fds[0]);
    g_assert_true(qio_channel_wake_hung_up(wioc));
    close_and_unref(wioc);
}

static void test_refused(void)
{
    g_autofree char *path = NULL;
    QIOChannelWake *in, *out;
    QIOChannel *ioc;
    Error *err = NULL;
    int fds[2], fd = g_file_open_tmp("test-channel-wake-XXXXXX", &path, NULL);

    close(fd);
    ioc = QIO_CHANNEL(qio_channel_file_new_path(path, O_RDONLY, 0,
                                                &error_abort));
    assert_refused(ioc, "cannot be interrupted");
    object_unref(OBJECT(ioc));
    unlink(path);

    new_pipe(fds);
    ioc = QIO_CHANNEL(qio_channel_file_new_fd(fds[1]));
    g_assert_false(qio_channel_wake_new_pair(ioc, &in, &out, &err));
    error_free_or_abort(&err);
    out = wake_on(ioc);
    assert_refused(QIO_CHANNEL(out), "'qio-channel-wake'");
    g_assert_cmpint(qio_channel_read(QIO_CHANNEL(out), (char *)&fd, 1, &err),
                    ==, -1);
    error_free_or_abort(&err);
    close_and_unref(out);
    close(fds[0]);

    ioc = QIO_CHANNEL(qio_channel_socket_new());
    assert_refused(ioc, "no descriptor");
    object_unref(OBJECT(ioc));
}

static QIOChannelWake *spawn(const char *script, int flags, pid_t *pid)
{
    /* If a test fails, it is not to keep open what that was started with */
    g_autofree char *quiet = g_strdup_printf("exec 2>/dev/null; %s", script);
    const char *argv[] = { "/bin/sh", "-c", quiet, NULL };
    QIOChannelCommand *command =
        qio_channel_command_new_spawn(argv, flags, &error_abort);

    if (pid) {
        *pid = command->pid;
    }
    return wake_on(QIO_CHANNEL(command));
}

/*
 * At a normal end nobody waits for it, and nobody kills it. If close waited,
 * it would hang, as the child waits for the test; if it killed, the file would
 * stay empty. That it is reaped at last is seen by who runs the test.
 */
static void test_command_lives_on(void)
{
    g_autofree char *dir = g_dir_make_tmp("test-channel-wake-XXXXXX", NULL);
    g_autofree char *gate = g_build_filename(dir, "gate", NULL);
    g_autofree char *path = g_build_filename(dir, "path", NULL);
    g_autofree char *script = NULL;
    g_autofree char *text = NULL;
    QIOChannelWake *wioc;
    siginfo_t info = { };
    pid_t pid;
    int fd;

    g_assert_cmpint(mkfifo(gate, 0600), ==, 0);
    script = g_strdup_printf("x=$(cat); read y < %s; echo \"$x\" > %s", gate,
                             path);
    wioc = spawn(script, O_WRONLY, &pid);
    g_assert_cmpint(qio_channel_write_all(QIO_CHANNEL(wioc), "hello", 5,
                                          &error_abort), ==, 0);
    close_and_unref(wioc);

    /* Longer than one that was told to end has */
    g_usleep(100 * 1000);
    g_assert_cmpint(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT), ==,
                    0);
    g_assert_cmpint(info.si_pid, ==, 0);
    fd = open(gate, O_WRONLY);
    g_assert_cmpint(write(fd, "\n", 1), ==, 1);
    close(fd);

    while (has_children()) {
        g_usleep(1000);
    }
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "hello\n");
    unlink(gate);
    unlink(path);
    rmdir(dir);
}

static void wait_stopped(pid_t pid)
{
    siginfo_t info;

    g_assert_cmpint(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), ==, 0);
    g_assert_cmpint(info.si_code, ==, CLD_STOPPED);
}

/*
 * Neither reads nor ends. Without SIGTERM and SIGKILL, who runs the test waits
 * for its end until the alarm; with a script that ignores SIGTERM, or is
 * stopped, without SIGKILL.
 */
static void do_test_command_stuck(const char *script, bool stopped)
{
    pid_t pid;
    QIOChannelWake *wioc = spawn(script, O_WRONLY, &pid);
    Job job;

    job_start(&job, write_job, wioc, MIB);
    while (qatomic_read(&job.done) < 65536) {
        g_usleep(1000);
    }
    job_wait_asleep(&job);
    if (stopped) {
        kill(pid, SIGSTOP);
        wait_stopped(pid);
    }
    shut(wioc);
    job_join(&job);
    g_assert_cmpint(job.last, ==, -1);
    job_clear(&job);
    close_and_unref(wioc);
    while (has_children()) {
        g_usleep(1000);
    }
}

static void test_command_stuck(void)
{
    do_test_command_stuck("exec sleep 600", false);
    do_test_command_stuck("trap '' TERM; exec sleep 600", false);
    do_test_command_stuck("exec sleep 600", true);
}

/* It is asked first, and not killed before close: it has the time to answer */
static void test_command_asked(void)
{
    g_autofree char *dir = g_dir_make_tmp("test-channel-wake-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "path", NULL);
    g_autofree char *script =
        g_strdup_printf("trap 'kill $!; mkdir %s; exit' TERM;"
                        " sleep 600 & printf x; wait", path);
    QIOChannelWake *wioc = spawn(script, O_RDONLY, NULL);
    char c;

    g_assert_cmpint(qio_channel_read_all(QIO_CHANNEL(wioc), &c, 1,
                                         &error_abort), ==, 0);
    shut(wioc);
    while (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
        g_usleep(1000);
    }
    close_and_unref(wioc);
    rmdir(path);
    rmdir(dir);
}

static void test_command_reads(void)
{
    QIOChannelWake *wioc = spawn("printf abc; exec sleep 600", O_RDONLY,
                                 NULL);
    char buf[4] = "";
    Job job;

    g_assert_cmpint(qio_channel_read_all(QIO_CHANNEL(wioc), buf, 3,
                                         &error_abort), ==, 0);
    g_assert_cmpstr(buf, ==, "abc");
    job_start(&job, read_job, wioc, 1);
    job_wait_asleep(&job);
    shut(wioc);
    job_join(&job);
    g_assert_cmpint(job.last, ==, 0);
    close_and_unref(wioc);
}

/*
 * Both sides read and write all the time, each in two threads. Without the
 * mutex of the halves, two of them are in a session and QEMU ends with "TLS
 * session is used by threads ...". With a reader that sleeps inside of the
 * session, it hangs.
 */
static void test_tls(void)
{
    QIOChannelTLS *tls[2];
    QIOChannelWake *in[2], *out[2];
    Job reader[2], writer[2];

    new_tls(tls);
    for (int i = 0; i < 2; i++) {
        qcrypto_tls_session_set_exclusive(qio_channel_tls_get_session(tls[i]));
        new_halves(QIO_CHANNEL(tls[i]), &in[i], &out[i]);
    }
    for (int i = 0; i < 2; i++) {
        job_start(&reader[i], read_job, in[i], 16 * MIB);
        job_start(&writer[i], write_job, out[i], 16 * MIB);
    }
    for (int i = 0; i < 2; i++) {
        job_join(&writer[i]);
        job_join(&reader[i]);
        g_assert_cmpint(writer[i].done, ==, 16 * MIB);
        g_assert_cmpint(reader[i].done, ==, 16 * MIB);
    }

    /* The last bytes of a record are in the session and not in the socket */
    g_assert_cmpint(qio_channel_write_all(QIO_CHANNEL(out[0]), "xyz", 3,
                                          &error_abort), ==, 0);
    for (int i = 0; i < 3; i++) {
        char c;

        g_assert_cmpint(wait_for_watch(in[1], G_IO_IN), ==, G_IO_IN);
        g_assert_cmpint(qio_channel_wake_wait(in[1], G_IO_IN, 0), ==, 1);
        g_assert_cmpint(qio_channel_read(QIO_CHANNEL(in[1]), &c, 1,
                                         &error_abort), ==, 1);
    }

    /* A reader is woken up, and a broken connection is the end for it */
    job_start(&reader[0], read_job, in[0], 1);
    job_wait_asleep(&reader[0]);
    shut(out[0]);
    shut(in[0]);
    job_join(&reader[0]);
    g_assert_cmpint(reader[0].last, ==, 0);
    g_assert_null(reader[0].error);

    for (int i = 0; i < 2; i++) {
        close_and_unref(in[i]);
        close_and_unref(out[i]);
    }
}

/* A reader sleeps in the session, as there is nothing else that it could do */
static void write_while_read(bool exclusive)
{
    QIOChannelTLS *tls[2];
    Job job;
    char c;

    new_tls(tls);
    for (int i = 0; i < 2; i++) {
        qio_channel_set_blocking(QIO_CHANNEL(tls[i]), true, &error_abort);
    }
    if (exclusive) {
        qcrypto_tls_session_set_exclusive(qio_channel_tls_get_session(tls[0]));
    }
    job_start(&job, read_job, tls[0], 1);
    job_wait_asleep(&job);
    g_assert_cmpint(qio_channel_write_all(QIO_CHANNEL(tls[0]), "x", 1,
                                          &error_abort), ==, 0);

    g_assert_cmpint(qio_channel_read_all(QIO_CHANNEL(tls[1]), &c, 1,
                                         &error_abort), ==, 0);
    c = pattern(0);
    g_assert_cmpint(qio_channel_write_all(QIO_CHANNEL(tls[1]), &c, 1,
                                          &error_abort), ==, 0);
    job_join(&job);
    close_and_unref(tls[0]);
    close_and_unref(tls[1]);
}

/* Nobody asked for it: as always */
static void test_session_shared(void)
{
    write_while_read(false);
}

/*
 * The subprocess must die, of nothing else than that. Without the assertion
 * the write succeeds, and the test fails as the subprocess does not.
 */
static void test_session_exclusive(void)
{
    if (g_test_subprocess()) {
        write_while_read(true);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*TLS session is used by threads * and * at the"
                              " same time*");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        TestFunc *func;
    } tests[] = {
        { "/channel-wake/write-stalled", test_write_stalled },
        { "/channel-wake/read-idle", test_read_idle },
        { "/channel-wake/race", test_race },
        { "/channel-wake/stream", test_stream },
        { "/channel-wake/mode-of-pipe", test_mode_of_pipe },
        { "/channel-wake/want-of-descriptors", test_want_of_descriptors },
        { "/channel-wake/mode-of-socket", test_mode_of_socket },
        { "/channel-wake/wait/answers", test_wait },
        { "/channel-wake/wait/signals", test_wait_signals },
        { "/channel-wake/nonblocking", test_nonblocking },
        { "/channel-wake/yield", test_yield },
        { "/channel-wake/watch", test_watch },
        { "/channel-wake/halves", test_halves },
        { "/channel-wake/close-order", test_close_order },
        { "/channel-wake/shutdown-of-all", test_shutdown_of_all },
        { "/channel-wake/hung-up", test_hung_up },
        { "/channel-wake/refused", test_refused },
        { "/channel-wake/command/lives-on", test_command_lives_on },
        { "/channel-wake/command/asked", test_command_asked },
        { "/channel-wake/command/stuck", test_command_stuck },
        { "/channel-wake/command/reads", test_command_reads },
#ifdef CONFIG_GNUTLS
        { "/channel-wake/mode-of-tls", test_mode_of_tls },
        { "/channel-wake/tls", test_tls },
        { "/tls-session-use/shared", test_session_shared },
        { "/tls-session-use/exclusive", test_session_exclusive },
#endif
    };

    signal(SIGPIPE, SIG_IGN);
    g_assert_cmpint(qcrypto_init(NULL), ==, 0);
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);

    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(tests); i++) {
        g_test_add_data_func(tests[i].path, tests[i].func, run_test);
    }
    channel_wake_add_kinds_tests();
    return g_test_run();
}
