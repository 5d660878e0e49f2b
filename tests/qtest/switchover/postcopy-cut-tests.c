/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that is held, over a connection that breaks
 *
 * Before the commit a break is the end, and the guest runs on at the source.
 * After it, it is a pause, and the guest runs at the destination, later.  While
 * the commit is on its way, the destination cannot know which of both.
 *
 * What failing looks like: the guest runs on both sides, or on none, or without
 * what it had written.  A source that forgets that it has committed says
 * "migration is 'failed' instead of 'postcopy-paused'" where recovery is due.
 */

#include "qemu/osdep.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/postcopy-ready-tests.h"

/* Connections that are cut at random */
#define RANDOM_CUTS 12
#define RANDOM_US 20000

typedef struct Kept {
    SwProxy *proxy;
    SwDirection direction;
} Kept;

static bool has_kept(void *opaque)
{
    Kept *kept = opaque;

    return sw_proxy_kept(kept->proxy, kept->direction) > 0;
}

/* Nothing else comes in this direction, so what is there is the message */
static void wait_kept(SwRig *rig, SwDirection direction)
{
    Kept kept = { .proxy = rig->proxy, .direction = direction };

    sw_wait_until(has_kept, &kept, SW_WAIT_MS, "a message to be kept");
}

/*
 * Nobody asks for memory while the guest is held, and the source sends its own
 * until there is none left.
 */
static bool has_sent_all(void *opaque)
{
    return sw_hold_remaining(opaque) == 0;
}

static void hold_until_all_is_sent(SwRig *rig)
{
    sw_hold(rig);
    sw_wait_until(has_sent_all, rig, SW_WAIT_MS, "all memory to be sent");
}

/*
 * Before
 */

static void end_cut_before(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_proxy_cut(rig->proxy);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/* The destination never hears that a commit is wanted, so it may end */
static void end_lose_prepare(SwRig *rig)
{
    hold_until_all_is_sent(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_hold_continue(rig);
    wait_kept(rig, SW_TO_DESTINATION);
    sw_proxy_cut(rig->proxy);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

/*
 * During
 */

/* The destination may not run, and may not end: it may have to, and not know */
static void expect_in_doubt(SwRig *rig)
{
    g_autofree char *path = g_strdup_printf("unix:%s/nobody", rig->dir);

    sw_status_wait(rig->dst->mon, "postcopy-paused");
    qobject_unref(sw_qmp_try(rig->dst->mon, "{ 'execute': 'cont' }"));
    sw_guest_wait_beats(rig->src->guest, 20);
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));

    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'migrate-recover',"
              " 'arguments': { 'uri': %s } }", path);
    sw_guest_wait_beats(rig->src->guest, 20);
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    g_assert_cmpuint(sw_event_count(rig->dst->mon, "RESUME"), ==, 0);
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
}

/* Its user, who knows that the source failed, ends it */
static void end_destination(SwRig *rig)
{
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'quit' }");
    sw_vm_wait_exit(rig->dst, EXIT_SUCCESS);
}

static void expect_source_has_it(SwRig *rig)
{
    sw_status_wait(rig->src->mon, "failed");
    g_assert_false(sw_status_seen(rig->src->mon, "postcopy-active"));
    expect_in_doubt(rig);
    sw_expect_working(rig);
    g_assert_true(sw_vm_in_state(rig->src, "running"));
    end_destination(rig);
}

/* The source does not hear that the destination would accept */
static void end_lose_accept(SwRig *rig)
{
    hold_until_all_is_sent(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_SOURCE);
    sw_hold_continue(rig);
    wait_kept(rig, SW_TO_SOURCE);
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_cut(rig->proxy);
    expect_source_has_it(rig);
}

/* The same, with what the destination's user wanted */
static void end_lose_ask(SwRig *rig)
{
    hold_until_all_is_sent(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_SOURCE);
    sw_hold_cont(rig);
    wait_kept(rig, SW_TO_SOURCE);
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_cut(rig->proxy);
    expect_source_has_it(rig);
}

/* Its commit is a matter of time only: there is no way back any more */
static void end_late_accept(SwRig *rig)
{
    hold_until_all_is_sent(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_SOURCE);
    sw_hold_continue(rig);
    wait_kept(rig, SW_TO_SOURCE);
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_let_go(rig->proxy);
    sw_hold_expect_completed(rig);
}

/* Cancelled while the destination's word is on its way: the source has it */
static void end_cancel_accept(SwRig *rig)
{
    hold_until_all_is_sent(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_SOURCE);
    sw_hold_continue(rig);
    wait_kept(rig, SW_TO_SOURCE);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(rig->src->mon, "cancelled");
    sw_proxy_let_go(rig->proxy);
    expect_in_doubt(rig);
    sw_expect_working(rig);
    end_destination(rig);
}

/*
 * After
 */

/* Nothing makes the source run */
static void expect_source_is_still(SwRig *rig)
{
    g_autofree char *cancel = NULL;
    unsigned beats = sw_guest_beats(rig->src->guest);

    cancel = sw_qmp_error(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    qobject_unref(sw_qmp_try(rig->src->mon, "{ 'execute': 'cont' }"));
    sw_guest_wait_silence(rig->src->guest, 300);
    g_assert_false(sw_vm_in_state(rig->src, "running"));
    g_assert_cmpuint(sw_guest_beats(rig->src->guest), ==, beats);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "RESUME"), ==, 0);
}

static void expect_given_away(SwRig *rig)
{
    sw_status_wait(rig->src->mon, "postcopy-paused");
    sw_status_wait(rig->dst->mon, "postcopy-paused");
    expect_source_is_still(rig);
}

static void recover_and_complete(SwRig *rig)
{
    sw_hold_unlimit(rig);
    sw_rig_listen_again(rig);
    sw_rig_resume(rig);
    sw_expect_completed(rig);
}

/* The source has committed, and the destination does not know */
static void lose_run(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_hold_cont(rig);
    sw_status_wait(rig->src->mon, "postcopy-active");
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_cut(rig->proxy);
    expect_given_away(rig);
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
}

static void end_lose_run(SwRig *rig)
{
    lose_run(rig);
    recover_and_complete(rig);
}

/* The connection that recovers breaks as well, before the word gets there */
static void end_lose_run_twice(SwRig *rig)
{
    lose_run(rig);
    sw_events_forget(rig->src->mon);
    sw_events_forget(rig->dst->mon);
    sw_rig_listen_again(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_rig_resume(rig);
    wait_kept(rig, SW_TO_DESTINATION);
    sw_proxy_cut(rig->proxy);
    expect_given_away(rig);
    recover_and_complete(rig);
}

static void end_cut_after(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_hold_continue(rig);
    sw_status_wait(rig->dst->mon, "postcopy-active");
    sw_vm_wait_state(rig->dst, "running");
    sw_proxy_cut(rig->proxy);
    expect_given_away(rig);
    recover_and_complete(rig);
}

/*
 * All memory has gone over, and the destination says that it needs nothing
 * more; the source does not hear it.  For all it knows it may still be needed.
 *
 * Unpatched QEMU runs the guest on the source then, as well.
 */
static void end_lose_completion(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_hold_continue(rig);
    sw_status_wait(rig->dst->mon, "postcopy-active");
    sw_proxy_withhold(rig->proxy, SW_TO_SOURCE);
    sw_hold_unlimit(rig);
    sw_status_wait(rig->dst->mon, "completed");
    sw_proxy_cut(rig->proxy);

    sw_status_wait(rig->src->mon, "postcopy-paused");
    sw_expect_guest_working(rig->dst->guest);
    expect_source_is_still(rig);
}

/* Committed, and both break at once: what is left of the guest waits */
static void end_source_dies_after(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_hold_cont(rig);
    sw_status_wait(rig->src->mon, "postcopy-active");
    sw_vm_kill(rig->src);
    sw_proxy_cut(rig->proxy);
    sw_status_wait(rig->dst->mon, "postcopy-paused");
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    end_destination(rig);
}

/*
 * At random, from before the commit until after it
 */

static bool is_decided(void *opaque)
{
    SwRig *rig = opaque;

    return sw_status_seen(rig->src->mon, "failed") ||
           sw_status_seen(rig->src->mon, "postcopy-paused");
}

static bool has_exited_or_paused(void *opaque)
{
    SwRig *rig = opaque;

    return sw_status_seen(rig->dst->mon, "failed") ||
           sw_status_seen(rig->dst->mon, "postcopy-paused");
}

/* Returns whether the source has the guest; if so, it works there */
static bool cut_at_random(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_hold_limit(rig);
    sw_status_wait(rig->src->mon, "postcopy-ready");
    if (g_random_boolean()) {
        sw_hold_cont(rig);
    } else {
        sw_hold_continue(rig);
    }
    g_usleep(g_random_int_range(0, RANDOM_US));
    sw_proxy_cut(rig->proxy);
    sw_wait_until(is_decided, rig, SW_WAIT_MS, "the source to notice");
    sw_wait_until(has_exited_or_paused, rig, SW_WAIT_MS,
                  "the destination to notice");
    if (!sw_status_seen(rig->src->mon, "failed")) {
        return false;
    }
    sw_expect_working(rig);
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    if (sw_status_seen(rig->dst->mon, "postcopy-paused")) {
        end_destination(rig);
    } else {
        sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    }
    return true;
}

static void end_random(SwRig *rig)
{
    unsigned i, kept = 0;

    for (i = 0; i < RANDOM_CUTS; i++) {
        sw_watchdog_start();
        if (cut_at_random(rig)) {
            kept++;
            sw_rig_renew_destination(rig);
        } else {
            recover_and_complete(rig);
            sw_rig_turn(rig);
        }
    }
    g_test_message("the source kept the guest %u times of %u", kept,
                   RANDOM_CUTS);
}

static const SwCase cases[] = {
    {
        .path = "cut/before/held",
        SW_READY_CASE,
        .proxied = true,
        .end = end_cut_before,
    }, {
        .path = "cut/before/preempt",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .capabilities = { "postcopy-preempt" },
        .end = end_cut_before,
    }, {
        .path = "cut/prepare-lost",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_prepare,
    }, {
        .path = "cut/accept-lost/continue",
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_accept,
    }, {
        .path = "cut/accept-lost/cont",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_ask,
    }, {
        .path = "cut/accept-late",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_late_accept,
    }, {
        .path = "cut/accept-cancelled",
        SW_READY_CASE,
        .proxied = true,
        .end = end_cancel_accept,
    }, {
        .path = "cut/run-lost/once",
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_run,
    }, {
        .path = "cut/run-lost/paused",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .dst_paused = true,
        .end = end_lose_run,
    }, {
        .path = "cut/run-lost/preempt",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .capabilities = { "postcopy-preempt" },
        .end = end_lose_run,
    }, {
        .path = "cut/run-lost/twice",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_run_twice,
    }, {
        .path = "cut/after/running",
        SW_READY_CASE,
        .proxied = true,
        .end = end_cut_after,
    }, {
        .path = "cut/after/preempt",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .capabilities = { "postcopy-preempt" },
        .end = end_cut_after,
    }, {
        .path = "cut/completion",
        SW_READY_CASE,
        .proxied = true,
        .end = end_lose_completion,
    }, {
        .path = "cut/after/source-dies",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_source_dies_after,
    }, {
        .path = "cut/random",
        .full = true,
        SW_READY_CASE,
        .proxied = true,
        .end = end_random,
    },
};

void sw_add_postcopy_cut_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SW_READY_SUITE, &cases[i], sw_run_ready_case);
    }
}
