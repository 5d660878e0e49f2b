/*
 * Tests of counting iterations, and of bounding them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An iteration is whatever the test wants to be done in it.  With "-m perf" it
 * is said how long counting takes, which tests/bench/iterations asks for.
 */

#include "qemu/osdep.h"
#include "migration/iterations.h"
#include "migration/multifd-wait.h"
#include "migration/outgoing-channel.h"
#include "migration/savevm.h"
#include "monitor/monitor.h"
#include "qapi/qapi-types-switchover.h"
#include "qemu/timer.h"

#define LIMIT_MS 5
#define PERF_ROUNDS 1000000

static MigrationState state;
static void (*in_iteration)(void);
static int64_t settle_ns = -1;
static bool main_settled, multifd_settled;
static GString *said;

/* What migration/iterations.c uses of others */

bool migration_outgoing_settle(QEMUFile *f, int64_t until_ns)
{
    settle_ns = until_ns;
    return main_settled;
}

bool multifd_wait_settle(int64_t until_ns)
{
    g_assert_cmpint(until_ns, ==, settle_ns);
    return multifd_settled;
}

void multifd_wait_reset(void)
{
}

int qemu_savevm_state_iterate(QEMUFile *f, bool postcopy)
{
    in_iteration();
    return 17;
}

int monitor_printf(Monitor *mon, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append_vprintf(said, fmt, ap);
    va_end(ap);
    return 0;
}

static void spin(int64_t us)
{
    int64_t end_ns = get_clock() + us * SCALE_US;

    while (get_clock() < end_ns) {
        continue;
    }
}

static void do_nothing(void)
{
}

static void take_3_ms(void)
{
    spin(3000);
}

static void run(void (*what)(void))
{
    in_iteration = what;
    g_assert_cmpint(iterations_run(&state, false), ==, 17);
}

static void begin(uint64_t limit_ms)
{
    state.parameters.iteration_limit = limit_ms;
    iterations_reset();
}

/* With the histogram left where it was: more in it than were counted */
static void check(uint64_t count)
{
    g_autoptr(MigrationIterations) info = iterations_info();
    const MigrationIterationBucketList *item;
    uint64_t sum = 0, next = 0;

    g_assert_cmpuint(info->count, ==, count);
    for (item = info->histogram; item; item = item->next) {
        g_assert(item == info->histogram || item->value->from_us == next);
        next = MAX(2, 2 * item->value->from_us);
        sum += item->value->count;
    }
    g_assert_cmpuint(sum, ==, count);
    g_assert_cmpuint(info->min_us, <=, info->avg_us);
    g_assert_cmpuint(info->avg_us, <=, info->max_us);
    if (count) {
        g_assert_cmpuint(info->histogram->value->from_us, <=, info->min_us);
        g_assert_cmpuint(info->max_us, <, next);
    }
}

static void test_none(void)
{
    g_assert_null(iterations_info());
    begin(0);
    check(0);
}

/* With the shortest one not asked for: min_us is 0, or 3000 */
static void test_count(void)
{
    g_autoptr(MigrationIterations) info = NULL;

    begin(0);
    run(take_3_ms);
    check(1);
    info = iterations_info();
    g_assert_cmpuint(info->min_us, >=, 3000);
    run(do_nothing);
    run(take_3_ms);
    check(3);
    qapi_free_MigrationIterations(info);
    info = iterations_info();
    g_assert_cmpuint(info->min_us, <, 3000);
    g_assert_cmpuint(info->max_us, >=, 3000);
    begin(0);
    check(0);
}

static void take_3_ms_and_look(void)
{
    g_autoptr(MigrationIterations) info = NULL;

    spin(3000);
    info = iterations_info();
    g_assert_cmpuint(info->count, ==, 0);
    g_assert_cmpuint(info->max_us, >=, 3000);
}

/* With only those counted that have ended: max_us is 0 while it runs */
static void test_running(void)
{
    begin(0);
    run(take_3_ms_and_look);
    check(1);
}

static uint64_t blocked_ms(void)
{
    g_autoptr(MigrationIterations) info = iterations_info();

    return info->blocked_ms;
}

/* With the wait that lasts left out: 0 ms while it does */
static void test_blocked(void)
{
    uint64_t ms;

    begin(0);
    iterations_blocked_begin();
    spin(3000);
    g_assert_cmpuint(blocked_ms(), >=, 3);
    iterations_blocked_end();
    ms = blocked_ms();
    g_assert_cmpuint(ms, >=, 3);
    spin(3000);
    g_assert_cmpuint(blocked_ms(), ==, ms);
}

static void be_late(void)
{
    int64_t begin_ns = get_clock();

    g_assert_cmpint(iterations_deadline(), <=,
                    get_clock() + LIMIT_MS * SCALE_MS);
    while (!iterations_is_late()) {
        g_assert_cmpint(get_clock(), <, begin_ns + 10 * NANOSECONDS_PER_SECOND);
    }
    /* The iteration began a little before */
    g_assert_cmpint(get_clock(), >=, begin_ns + (LIMIT_MS - 1) * SCALE_MS);
    g_assert(iterations_is_over());
}

static void never_be_late(void)
{
    int64_t now_ns = get_clock();

    g_assert_cmpint(iterations_deadline(), >, now_ns);
    g_assert_cmpint(iterations_deadline(), <=, now_ns + MIGRATION_PATIENCE_NS);
    spin(3000);
    g_assert(!iterations_is_late());
    iterations_end_early();
    g_assert(iterations_is_over());
}

/* With the limit not looked at: it takes ten seconds */
static void test_limit(void)
{
    begin(LIMIT_MS);
    run(be_late);
    begin(0);
    run(never_be_late);
    g_assert(!iterations_is_over());
    iterations_end_early();
    g_assert(!iterations_is_over());
    g_assert_cmpint(iterations_deadline(), ==, INT64_MAX);
}

/* With either one not asked: it may begin too early */
static void test_settle(void)
{
    main_settled = multifd_settled = true;
    g_assert(iterations_may_begin(&state));
    main_settled = false;
    g_assert(!iterations_may_begin(&state));
    main_settled = true;
    multifd_settled = false;
    g_assert(!iterations_may_begin(&state));
}

static void test_load(void)
{
    int64_t begin_ns;

    begin(0);
    begin_ns = iterations_load_begin();
    spin(3000);
    iterations_load_end(begin_ns);
    check(1);
}

static void test_hmp(void)
{
    g_autoptr(MigrationIterations) info = NULL;

    said = g_string_new(NULL);
    begin(0);
    info = iterations_info();
    iterations_hmp_info(NULL, info);
    g_assert_cmpstr(said->str, ==, "");
    run(take_3_ms);
    iterations_count_stall();
    qapi_free_MigrationIterations(info);
    info = iterations_info();
    iterations_hmp_info(NULL, info);
    g_assert_nonnull(strstr(said->str, "iterations: 1, min "));
    g_assert_nonnull(strstr(said->str, "(1 stalls)"));
    g_assert_nonnull(strstr(said->str, " us: 1\n"));
    g_string_free(said, true);
}

static void perf_iteration(void)
{
    int64_t begin_ns;
    double ns;

    begin(0);
    begin_ns = get_clock();
    for (unsigned i = 0; i < PERF_ROUNDS; i++) {
        run(do_nothing);
    }
    ns = (double)(get_clock() - begin_ns) / PERF_ROUNDS;
    g_test_minimized_result(ns, "%.1f ns for an iteration", ns);
}

static void perf_wait(void)
{
    int64_t begin_ns;
    double ns;

    begin(0);
    begin_ns = get_clock();
    for (unsigned i = 0; i < PERF_ROUNDS; i++) {
        iterations_blocked_begin();
        iterations_blocked_end();
    }
    ns = (double)(get_clock() - begin_ns) / PERF_ROUNDS;
    g_test_minimized_result(ns, "%.1f ns for a wait", ns);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iterations/none", test_none);
    g_test_add_func("/iterations/count", test_count);
    g_test_add_func("/iterations/running", test_running);
    g_test_add_func("/iterations/blocked", test_blocked);
    g_test_add_func("/iterations/limit", test_limit);
    g_test_add_func("/iterations/settle", test_settle);
    g_test_add_func("/iterations/load", test_load);
    g_test_add_func("/iterations/hmp", test_hmp);
    if (g_test_perf()) {
        g_test_add_func("/iterations/perf/iteration", perf_iteration);
        g_test_add_func("/iterations/perf/wait", perf_wait);
    }
    return g_test_run();
}
