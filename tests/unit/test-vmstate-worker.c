/*
 * VM state change worker tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The main thread plays the one with the BQL, which nobody else wants.  Works
 * count, over socketpairs or without; what is tested is that no step is lost,
 * and that none is made by a worker when the work belongs to its owner.
 *
 * Meant to be run with ThreadSanitizer, too.
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qemu/main-loop.h"

#include "system/vmstate-worker.h"

#define THREADS 4
#define WORKS 32
#define ROUNDS 2000

/* About hanging, not about speed */
#define HANG_S 120

typedef struct Counter {
    VMStateWork work;
    int peer;                   /* the other end of work.fd */

    /* Atomic */
    unsigned produced;
    bool stepping;              /* a worker is in step() */
    bool mine;                  /* no worker may be */

    /* Of whom the work belongs to */
    unsigned consumed;
    unsigned wanted;
} Counter;

static unsigned notified;       /* atomic */

static void count_notify(void)
{
    qatomic_inc(&notified);
}

static void enter_step(Counter *c)
{
    g_assert_false(qatomic_xchg(&c->stepping, true));
    g_assert_false(qatomic_read(&c->mine));
}

static void leave_step(Counter *c)
{
    qatomic_set(&c->stepping, false);
}

/* Takes what was produced: no file descriptor, it has to be poked */
static bool step_take(VMStateWork *work, short *events)
{
    Counter *c = container_of(work, Counter, work);

    enter_step(c);
    c->consumed += qatomic_xchg(&c->produced, 0);
    leave_step(c);
    return true;
}

/* Reads bytes until it has as many as it wants */
static bool step_read(VMStateWork *work, short *events)
{
    Counter *c = container_of(work, Counter, work);
    char buf[7];
    ssize_t n;

    enter_step(c);
    while (c->consumed < c->wanted) {
        n = RETRY_ON_EINTR(recv(work->fd, buf,
                                MIN(sizeof(buf), c->wanted - c->consumed),
                                MSG_DONTWAIT));
        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            *events = POLLIN;
            break;
        }
        c->consumed += n;
    }
    leave_step(c);
    return c->consumed == c->wanted;
}

static Counter *counters_new(bool (*step)(VMStateWork *work, short *events))
{
    Counter *c = g_new0(Counter, WORKS);
    int i, fds[2];

    alarm(HANG_S);
    rust_bql_mock_lock();
    vmstate_workers_start(THREADS);
    g_assert_cmpuint(vmstate_workers_active(), ==, THREADS);
    for (i = 0; i < WORKS; i++) {
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
        c[i].work.device = "test";
        c[i].work.step = step;
        c[i].work.fd = fds[0];
        c[i].peer = fds[1];
    }
    return c;
}

static void counters_free(Counter *c)
{
    int i;

    for (i = 0; i < WORKS; i++) {
        vmstate_work_cancel(&c[i].work);
        close(c[i].work.fd);
        close(c[i].peer);
    }
    g_free(c);
    alarm(0);
}

static void wait_done(Counter *c)
{
    while (vmstate_work_pending(&c->work)) {
        g_usleep(100);
    }
}

/* Poked at any moment, also while it is about to be done: nothing is lost */
static void test_poke(void)
{
    Counter *c = counters_new(step_take);
    unsigned round, i;

    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < WORKS; i++) {
            qatomic_inc(&c[i].produced);
            if (!vmstate_work_poke(&c[i].work)) {
                vmstate_work_submit(&c[i].work);
            }
        }
    }
    for (i = 0; i < WORKS; i++) {
        wait_done(&c[i]);
        g_assert_cmpuint(c[i].consumed, ==, ROUNDS);
    }
    counters_free(c);
}

static void send_bytes(Counter *c, unsigned n)
{
    static const char bytes[64];

    g_assert_cmpint(send(c->peer, bytes, n, 0), ==, n);
}

/* Bytes arrive before, while and after it is submitted, in pieces */
static void test_read(void)
{
    Counter *c = counters_new(step_read);
    unsigned round, i;

    for (round = 0; round < ROUNDS / 10; round++) {
        for (i = 0; i < WORKS; i++) {
            c[i].wanted += 32;
            send_bytes(&c[i], i);
            vmstate_work_submit(&c[i].work);
        }
        for (i = 0; i < WORKS; i++) {
            g_assert_true(vmstate_work_pending(&c[i].work));
            send_bytes(&c[i], 32 - i);
        }
        for (i = 0; i < WORKS; i++) {
            wait_done(&c[i]);
            g_assert_cmpuint(c[i].consumed, ==, c[i].wanted);
        }
    }
    counters_free(c);
}

/* After a cancel no step is made, although there is something to read */
static void test_cancel(void)
{
    Counter *c = counters_new(step_read);
    unsigned round, i;

    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < WORKS; i++) {
            qatomic_set(&c[i].mine, false);
            c[i].wanted = c[i].consumed + 64;
            vmstate_work_submit(&c[i].work);
            if (g_random_boolean()) {
                send_bytes(&c[i], g_random_int_range(1, 8));
            }
        }
        for (i = 0; i < WORKS; i++) {
            vmstate_work_cancel(&c[i].work);
            qatomic_set(&c[i].mine, true);
            g_assert_false(qatomic_read(&c[i].stepping));
            g_assert_false(vmstate_work_pending(&c[i].work));
            g_assert_false(vmstate_work_poke(&c[i].work));
            send_bytes(&c[i], 1);
        }
        for (i = 0; i < WORKS; i++) {
            /* What is left must not fill the socket */
            char buf[64];

            while (recv(c[i].work.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0) {
                /* drop it */
            }
        }
    }
    counters_free(c);
}

/* A peer that is gone does not keep a worker busy, nor from ending */
static void test_hangup(void)
{
    Counter *c = counters_new(step_take);
    unsigned i;

    for (i = 0; i < WORKS; i++) {
        shutdown(c[i].peer, SHUT_RDWR);
        qatomic_inc(&c[i].produced);
        vmstate_work_submit(&c[i].work);
    }
    for (i = 0; i < WORKS; i++) {
        wait_done(&c[i]);
        g_assert_cmpuint(c[i].consumed, ==, 1);
    }
    counters_free(c);
}

static void test_notify(void)
{
    Counter *c = counters_new(step_take);
    unsigned round, before;

    vmstate_workers_set_notify(count_notify);
    for (round = 0; round < ROUNDS; round++) {
        before = qatomic_read(&notified);
        vmstate_work_submit(&c[round % WORKS].work);
        wait_done(&c[round % WORKS]);
        while (qatomic_read(&notified) == before) {
            g_usleep(10);
        }
    }
    /* Not called any more once it was taken back */
    for (round = 0; round < ROUNDS; round++) {
        vmstate_workers_set_notify(count_notify);
        vmstate_work_submit(&c[round % WORKS].work);
        vmstate_workers_set_notify(NULL);
        before = qatomic_read(&notified);
        wait_done(&c[round % WORKS]);
        g_assert_cmpuint(qatomic_read(&notified), ==, before);
    }
    counters_free(c);
}

/* Fewer threads, and more again: what they were given is done all the same */
static void test_threads(void)
{
    Counter *c = counters_new(step_take);
    unsigned round, i;

    for (round = 0; round < ROUNDS; round++) {
        vmstate_workers_start(1 + round % VMSTATE_WORKERS_MAX);
        i = round % WORKS;
        qatomic_inc(&c[i].produced);
        if (!vmstate_work_poke(&c[i].work)) {
            vmstate_work_submit(&c[i].work);
        }
    }
    for (i = 0; i < WORKS; i++) {
        wait_done(&c[i]);
        g_assert_cmpuint(c[i].produced, ==, 0);
    }
    counters_free(c);
}

static bool step_check_bql(VMStateWork *work, short *events)
{
    vmstate_worker_check_bql();
    return true;
}

static void test_bql(void)
{
    VMStateWork work = {
        .device = "dev0", .fd = -1, .step = step_check_bql,
    };

    if (g_test_subprocess()) {
        rust_bql_mock_lock();
        vmstate_worker_check_bql();
        vmstate_workers_start(1);
        vmstate_work_submit(&work);
        while (vmstate_work_pending(&work)) {
            g_usleep(100);
        }
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*Bug: a VM state change worker tries to take "
                              "the BQL on behalf of device 'dev0'*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/vmstate-worker/poke", test_poke);
    g_test_add_func("/vmstate-worker/read", test_read);
    g_test_add_func("/vmstate-worker/cancel", test_cancel);
    g_test_add_func("/vmstate-worker/hangup", test_hangup);
    g_test_add_func("/vmstate-worker/notify", test_notify);
    g_test_add_func("/vmstate-worker/threads", test_threads);
    g_test_add_func("/vmstate-worker/bql", test_bql);
    return g_test_run();
}
