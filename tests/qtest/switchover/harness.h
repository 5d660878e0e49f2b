/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what every part of the harness needs
 *
 * Theory of operation
 *
 * A test program is one thread that acts (the "main" thread) and a few that
 * only listen: one per monitor connection, one per serial line, one per
 * monitor prober.  A listener stamps what it hears with the monotonic clock
 * the moment it arrives and puts it on a list; the main thread asks the lists.
 * So a frozen QEMU never freezes the measurement.
 *
 * Nothing waits without a deadline.  A wait that runs out fails the test with
 * a sentence that says what did not come; a watchdog ends a test that is stuck
 * anywhere else.
 *
 * Every file lies below one directory per test, removed with sw_tmpdir_free().
 */
#ifndef SWITCHOVER_HARNESS_H
#define SWITCHOVER_HARNESS_H

#include "libqtest.h"

/*
 * How many times as long as usual to wait: SWITCHOVER_PATIENCE, for a QEMU that
 * is slow altogether
 */
int sw_patience(void);

/* For what takes well below a second unless something is broken */
#define SW_WAIT_MS (60000 * sw_patience())

/* A single test that takes longer is stuck: above every sum of SW_WAIT_MS */
#define SW_WATCHDOG_S (300 * sw_patience())

/*
 * Bounds on "does not freeze".  A stuck disk stays stuck for SW_HANG_MS, which
 * is how long an unpatched QEMU is silent; a host with two slow cores must not
 * fail by being slow, so the bounds are far from both sides.
 */
#define SW_HANG_MS 3000
#define SW_GAP_LIMIT_MS 1000
#define SW_ANSWER_LIMIT_MS 1000

/* Fails the test with a sentence; the program aborts as with g_assert() */
void sw_fail(const char *file, int line, const char *func,
             const char *fmt, ...)
    G_GNUC_PRINTF(4, 5) G_GNUC_NORETURN;

#define SW_FAIL(...) sw_fail(__FILE__, __LINE__, __func__, __VA_ARGS__)

#define SW_CHECK(cond, ...)                                     \
    do {                                                        \
        if (!(cond)) {                                          \
            SW_FAIL(__VA_ARGS__);                               \
        }                                                       \
    } while (0)

/*
 * @what took @ms.  A QEMU that is slow altogether (SWITCHOVER_PATIENCE) is
 * looked at for what it does, not for how long that takes.
 */
#define SW_CHECK_SOON(ms, limit_ms, what)                                  \
    SW_CHECK((ms) < (limit_ms) || sw_patience() > 1, "%s took %d ms, the "  \
             "limit is %d ms", what, (int)(ms), (int)(limit_ms))

/* Polls until @cond(@opaque) or fails the test naming @what */
typedef bool SwCondition(void *opaque);
void sw_wait_until(SwCondition *cond, void *opaque, int timeout_ms,
                   const char *what);

int64_t sw_now_us(void);

static inline int64_t sw_since_ms(int64_t then_us)
{
    return (sw_now_us() - then_us) / 1000;
}

char *sw_tmpdir_new(void);
void sw_tmpdir_free(char *dir);

/* A unix socket listening at @path, and the first peer on it, waited for */
int sw_listen(const char *path);
int sw_accept(int listener, const char *what);

/* Starts, or starts again, the watchdog of the test that runs now */
void sw_watchdog_start(void);
void sw_watchdog_stop(void);

/*
 * The tests are about the new parameters; with SWITCHOVER_TEST_STOCK=1 they
 * leave them unset and so show, on any QEMU, the freeze that they are against.
 */
bool sw_stock_mode(void);

/* Environment variable @var if it names something that exists, else NULL */
const char *sw_env_path(const char *var);

#endif /* SWITCHOVER_HARNESS_H */
