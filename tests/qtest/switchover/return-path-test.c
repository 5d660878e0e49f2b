/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for a return path with a socket of its own
 *
 * A guest under TCG works on a disk, and on memory that it verifies, and is
 * migrated over two connections: what goes to the destination, and what comes
 * back with the pages that are asked for.
 *
 * Whatever becomes of it, the guest runs on the side that must have it, on that
 * side only, and finds in its memory and on its disk what it wrote.
 *
 * What failing looks like.  QEMU that does not know the channel refuses
 * "return-path" as the type of one.  What else a case notices is said where it
 * is.
 *
 * Environment: as for switchover-test.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-rig.h"
#include "switchover/return-path-tests.h"
#include "switchover/scenario.h"
#include "switchover/transport.h"

/*
 * It works
 */

static void end_completes(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

static void end_postcopy(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_expect_guest_working(rig->dst->guest);
    sw_hold_unlimit(rig);
    sw_expect_completed(rig);
}

static void end_held(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_hold_continue(rig);
    sw_hold_unlimit(rig);
    sw_hold_expect_completed(rig);
}

/*
 * It is not given on both sides
 */

static void end_source_only(SwRig *rig)
{
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "Cannot connect channel 'return-path'");
    sw_expect_on_source(rig);
    sw_link_expect_said(rig, "give one to migrate-incoming as well");
}

/* The source has no return path at all, or is unpatched: it hears little */
static void end_unexpected(SwRig *rig)
{
    SwCase right = *rig->c;

    sw_rig_migrate_slowly(rig);
    sw_status_wait(rig->src->mon, "failed");
    sw_link_expect_said(rig, "the source was not given a channel "
                        "'return-path'");
    sw_guest_wait_beats(rig->src->guest, 20);
    sw_expect_working(rig);
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    if (!rig->c->src_binary) {
        right.link = SW_BOTH;
        rig->c = &right;
        sw_link_expect_usable(rig);
    }
}

static void end_to_stock(SwRig *rig)
{
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "Cannot connect channel 'return-path'");
    sw_expect_on_source(rig);
    sw_link_expect_said(rig, "Not a migration stream");
}

/* Given to the wrong side: the destination stays, and takes the right one */
static void end_destination_only(SwRig *rig)
{
    SwCase right = *rig->c;

    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "give one to migrate as well");
    sw_link_expect_said(rig, "the source was not given a channel "
                        "'return-path'");
    right.link = SW_BOTH;
    rig->c = &right;
    sw_link_expect_usable(rig);
}

/* The two sides would not send and expect the same */
static void end_capability(SwRig *rig)
{
    sw_vm_set_capability(rig->dst, "postcopy-ram");
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "Capability 'postcopy-ram' is off at the "
                           "source");
    sw_vm_set_capability(rig->src, "postcopy-ram");
    sw_link_expect_usable(rig);
}

static void swap(char **a, char **b)
{
    char *c = *a;

    *a = *b;
    *b = c;
}

static void end_exchanged(SwRig *rig)
{
    swap(&rig->uri, &rig->link);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "are exchanged");
    swap(&rig->uri, &rig->link);
    sw_link_expect_usable(rig);
}

/*
 * The other connection leads to somewhere else
 */

static SwVM *start_other(SwRig *rig, char **uri, char **link)
{
    SwVM *other = sw_vm_new(rig->dir, "other", NULL, "-machine q35 -m 16 -S "
                            "-incoming defer");

    *uri = g_strdup_printf("unix:%s/other", rig->dir);
    *link = g_strdup_printf("unix:%s/other-link", rig->dir);
    sw_qmp_ok(other->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'channels': %p } }", sw_channels(*uri, *link));
    return other;
}

static void end_wrong_peer(SwRig *rig)
{
    g_autofree char *other_uri = NULL;
    char *link;
    SwVM *other = start_other(rig, &other_uri, &link);
    int64_t begun_us = sw_now_us();

    swap(&rig->link, &link);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "both addresses must lead to the same "
                           "destination");
    g_assert_cmpint(sw_since_ms(begun_us), <, SW_LINK_BOUND_MS);
    swap(&rig->link, &link);
    g_free(link);
    g_assert_true(sw_vm_in_state(other, "inmigrate"));
    sw_vm_free(other);
    sw_link_expect_usable(rig);
}

/*
 * Nobody answers.  The guest and the monitor do not notice.
 */

static void end_never_answered(SwRig *rig)
{
    g_autofree char *deaf_uri = g_strdup_printf("unix:%s/deaf", rig->dir);
    int deaf = sw_link_deaf(deaf_uri);
    int64_t begun_us = sw_now_us();

    swap(&rig->link, &deaf_uri);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "did not answer on the channel 'return-path'");
    g_test_message("given up after %d ms", (int)sw_since_ms(begun_us));
    g_assert_cmpint(sw_since_ms(begun_us), <, SW_LINK_BOUND_MS);
    g_assert_cmpint(sw_probe_worst_ms(rig->src->probe), <, SW_ANSWER_LIMIT_MS);
    swap(&rig->link, &deaf_uri);
    close(deaf);
    sw_link_expect_usable(rig);
}

static void end_frozen(SwRig *rig)
{
    sw_vm_freeze(rig->dst);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_link_expect_refused(rig, "did not answer on the channel 'return-path'");
    sw_vm_thaw(rig->dst);
    sw_link_expect_usable(rig);
}

/*
 * Cancelled while it connects: at once, and the next one may begin at once.
 * Otherwise "duplicate yank instance", or it goes to the old address.
 */
static void end_cancelled(SwRig *rig)
{
    g_autofree char *deaf_uri = g_strdup_printf("unix:%s/deaf", rig->dir);
    int deaf = sw_link_deaf(deaf_uri);
    unsigned n;

    swap(&rig->link, &deaf_uri);
    sw_rig_prepare(rig);
    for (n = 0; n < 3; n++) {
        sw_events_forget(rig->src->mon);
        sw_rig_start(rig);
        sw_cancel(rig);
    }
    swap(&rig->link, &deaf_uri);
    close(deaf);
    sw_link_expect_usable(rig);
}

/*
 * It breaks
 */

/*
 * In pre-copy that is the end.  Were it not noticed: both sides run the guest,
 * or the source waits for ever.
 */
static void end_cut_precopy(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_migration_error(rig->src, "Channel 'return-path'");
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

/* The guest is stopped, and its devices are not sent yet */
static void end_cut_at_switchover(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "pre-switchover");
    sw_proxy_cut(rig->link_proxy);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'pre-switchover' } }");
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

/*
 * All of the main channel has left the source, and then the link breaks.  The
 * source runs the guest; and so would the destination, if it did not look.
 */
static void end_cut_at_the_end(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_rig_hasten(rig);
    sw_status_wait(rig->src->mon, "device");
    sw_link_wait_still(rig->proxy, sw_proxy_kept, "all to be sent");
    sw_proxy_cut(rig->link_proxy);
    sw_status_wait(rig->src->mon, "failed");
    sw_guest_wait_beats(rig->src->guest, 1);

    sw_proxy_let_go(rig->proxy);
    sw_expect_on_source(rig);
    sw_link_expect_said(rig, "before the guest could run here");
    sw_expect_working(rig);
}

static void end_cut_link(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static void end_cut_main(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_proxy_cut(rig->proxy);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static void forget_events(SwRig *rig)
{
    sw_events_forget(rig->src->mon);
    sw_events_forget(rig->dst->mon);
}

static bool has_resumed_or_not(void *opaque)
{
    SwRig *rig = opaque;

    return sw_status_seen(rig->src->mon, "completed") ||
           sw_status_seen(rig->src->mon, "postcopy-paused");
}

/*
 * The source resumes where the destination listened from the beginning.  That
 * is the main loop's listener: if it waits for a page, it cannot accept, and
 * the source gives up, until there is another listener.
 */
static void finish_resume(SwRig *rig)
{
    sw_wait_until(has_resumed_or_not, rig, SW_WAIT_MS, "the source to resume");
    if (sw_status_seen(rig->src->mon, "postcopy-paused")) {
        g_test_message("nobody accepts");
        sw_expect_migration_error(rig->src, "did not answer");
        sw_link_recover(rig);
    } else {
        sw_expect_moved(rig);
        sw_expect_guest_working(rig->dst->guest);
    }
}

static void resume_first(SwRig *rig)
{
    forget_events(rig);
    sw_hold_unlimit(rig);
    sw_rig_resume(rig);
    finish_resume(rig);
}

static void end_resume_first(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    resume_first(rig);
}

/* ... before the destination knows that anything is broken */
static void end_resume_early(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_vm_freeze(rig->dst);
    sw_qmp_ok(rig->src->mon, "{ 'exec-oob': 'migrate-pause' }");
    sw_status_wait(rig->src->mon, "postcopy-paused");
    forget_events(rig);
    sw_hold_unlimit(rig);
    sw_rig_resume(rig);
    sw_status_wait(rig->src->mon, "postcopy-recover-setup");
    sw_vm_thaw(rig->dst);
    finish_resume(rig);
}

typedef struct Kept {
    SwProxy *proxy;
    SwDirection direction;
} Kept;

static bool has_kept(void *opaque)
{
    Kept *kept = opaque;

    return sw_proxy_kept(kept->proxy, kept->direction) > 0;
}

static bool has_sent_all(void *opaque)
{
    return sw_hold_remaining(opaque) == 0;
}

static bool is_read(void *opaque)
{
    return sw_proxy_unread(opaque, SW_TO_DESTINATION) == 0;
}

/*
 * All of the main channel has arrived, and pages that were asked for have not.
 * The destination waits for them; it would do so for ever if it did not notice
 * that they cannot come.
 */
static void end_lose_pages(SwRig *rig)
{
    Kept kept;

    sw_link_enter_postcopy(rig);
    kept = (Kept) { rig->link_proxy, SW_TO_DESTINATION };
    sw_proxy_withhold(rig->link_proxy, SW_TO_DESTINATION);
    sw_wait_until(has_kept, &kept, SW_WAIT_MS, "a page to be kept");
    sw_hold_unlimit(rig);
    sw_wait_until(has_sent_all, rig, SW_WAIT_MS, "all memory to be sent");
    sw_wait_until(is_read, rig->proxy, SW_WAIT_MS, "it to be read");
    sw_guest_wait_silence(rig->dst->guest, 300);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

/*
 * The destination says that it needs nothing more, and the source does not hear
 * it.  Unpatched QEMU runs the guest on the source then, as well.
 */
static void end_lose_completion(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_proxy_withhold(rig->link_proxy, SW_TO_SOURCE);
    sw_hold_unlimit(rig);
    /* What the guest misses cannot be asked for, but comes all the same */
    sw_status_wait(rig->dst->mon, "completed");
    sw_proxy_cut(rig->link_proxy);
    sw_status_wait(rig->src->mon, "postcopy-paused");
    sw_expect_guest_working(rig->dst->guest);
    g_assert_false(sw_vm_in_state(rig->src, "running"));
    g_assert_cmpuint(sw_event_count(rig->src->mon, "RESUME"), ==, 0);
}

/*
 * The reader stalls, and the source is in the middle of a write.  Unpatched
 * QEMU stays there with a pipe, until somebody reads.
 */
static void end_cancel_active(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    sw_vm_freeze(rig->dst);
    sw_vm_set_parameter(rig->src, "max-bandwidth", 0);
    sw_hold_wait_blocked(rig);
    sw_cancel(rig);
    sw_vm_thaw(rig->dst);
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

/*
 * While post-copy is held
 */

/* Before the commit it is the end, as if there were one connection */
static void end_cut_held(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_hold_expect_backed_out(rig, "failed", NULL);
}

static bool keeps_for_source(void *opaque)
{
    return sw_proxy_kept(opaque, SW_TO_SOURCE) > 0;
}

/* The source does not hear that the destination would accept: it keeps it */
static void end_lose_accept(SwRig *rig)
{
    sw_hold(rig);
    sw_wait_until(has_sent_all, rig, SW_WAIT_MS, "all memory to be sent");
    sw_proxy_withhold(rig->link_proxy, SW_TO_SOURCE);
    sw_hold_continue(rig);
    sw_wait_until(keeps_for_source, rig->link_proxy, SW_WAIT_MS,
                  "the word of the destination");
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_status_wait(rig->src->mon, "failed");
    sw_status_wait(rig->dst->mon, "postcopy-paused");
    sw_expect_working(rig);
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'quit' }");
    sw_vm_wait_exit(rig->dst, EXIT_SUCCESS);
}

/* The source has committed, and the destination does not know */
static void end_lose_run(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_proxy_withhold(rig->proxy, SW_TO_DESTINATION);
    sw_hold_cont(rig);
    sw_status_wait(rig->src->mon, "postcopy-active");
    sw_hold_expect_nobody_runs(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    sw_link_recover(rig);
}

static void end_cut_after(SwRig *rig)
{
    sw_hold_limited(rig);
    sw_hold_continue(rig);
    sw_status_wait(rig->dst->mon, "postcopy-active");
    sw_vm_wait_state(rig->dst, "running");
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

/* The commands of a user who knows that something is wrong */
static void end_pause_source(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_qmp_ok(rig->src->mon, "{ 'exec-oob': 'migrate-pause' }");
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static void end_pause_destination(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_qmp_ok(rig->dst->mon, "{ 'exec-oob': 'migrate-pause' }");
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static void yank(SwVM *vm)
{
    sw_qmp_ok(vm->mon, "{ 'exec-oob': 'yank', 'arguments': {"
              " 'instances': [ { 'type': 'migration' } ] } }");
}

static void end_yank_source(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    yank(rig->src);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static void end_yank_destination(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    yank(rig->dst);
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
}

static const SwCase cases[] = {
    {
        .path = "pre-copy/unix",
        PRECOPY,
        .end = end_completes,
    }, {
        .path = "pre-copy/tcp",
        PRECOPY,
        .main_by = "tcp",
        .link_by = "tcp",
        .end = end_completes,
    }, {
        .path = "pre-copy/tls",
        PRECOPY,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_completes,
    }, {
        .path = "pre-copy/libvirt",
        PRECOPY,
        .libvirt = true,
        .end = end_completes,
    }, {
        .path = "pre-copy/multifd",
        PRECOPY,
        .capabilities = { "multifd" },
        .end = end_completes,
    }, {
        .path = "setup/source-only",
        GUEST,
        .link = SW_SOURCE_ONLY,
        .end = end_source_only,
    }, {
        .path = "setup/destination-only",
        GUEST,
        .link = SW_DESTINATION_ONLY,
        .capabilities = { "return-path" },
        .end = end_destination_only,
    }, {
        .path = "setup/no-return-path",
        GUEST,
        .link = SW_DESTINATION_ONLY,
        .end = end_unexpected,
    }, {
        .path = "setup/from-stock",
        .full = true,
        GUEST,
        .link = SW_DESTINATION_ONLY,
        .src_binary = "SWITCHOVER_STOCK",
        .machine = "pc-q35-10.0",
        .capabilities = { "return-path" },
        .end = end_unexpected,
    }, {
        .path = "setup/to-stock",
        .full = true,
        GUEST,
        .link = SW_SOURCE_ONLY,
        .dst_binary = "SWITCHOVER_STOCK",
        .machine = "pc-q35-10.0",
        .end = end_to_stock,
    }, {
        .path = "setup/capability",
        PRECOPY,
        .end = end_capability,
    }, {
        .path = "setup/exchanged",
        PRECOPY,
        .end = end_exchanged,
    }, {
        .path = "setup/wrong-peer",
        PRECOPY,
        .end = end_wrong_peer,
    }, {
        .path = "setup/never-answered/plain",
        PRECOPY,
        .end = end_never_answered,
    }, {
        .path = "setup/never-answered/tls",
        PRECOPY,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_never_answered,
    }, {
        .path = "setup/frozen",
        .full = true,
        PRECOPY,
        .end = end_frozen,
    }, {
        .path = "setup/cancelled",
        PRECOPY,
        .end = end_cancelled,
    }, {
        .path = "cut/pre-copy/active",
        PRECOPY,
        .proxied = true,
        .end = end_cut_precopy,
    }, {
        .path = "cut/pre-copy/switchover",
        PRECOPY,
        .proxied = true,
        .pause_before_switchover = true,
        .end = end_cut_at_switchover,
    }, {
        .path = "cut/pre-copy/end",
        PRECOPY,
        .proxied = true,
        .end = end_cut_at_the_end,
    }, {
        .path = "cut/held/before",
        HELD,
        .proxied = true,
        .end = end_cut_held,
    }, {
        .path = "cut/held/accept-lost",
        HELD,
        .proxied = true,
        .end = end_lose_accept,
    }, {
        .path = "cut/held/run-lost",
        HELD,
        .proxied = true,
        .end = end_lose_run,
    }, {
        .path = "cut/held/after",
        HELD,
        .proxied = true,
        .end = end_cut_after,
    }, {
        .path = "post-copy/unix",
        POSTCOPY,
        .end = end_postcopy,
    }, {
        .path = "post-copy/tcp",
        POSTCOPY,
        .main_by = "tcp",
        .link_by = "tcp",
        .end = end_postcopy,
    }, {
        .path = "post-copy/tls",
        POSTCOPY,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_postcopy,
    }, {
        .path = "post-copy/preempt",
        POSTCOPY,
        .capabilities = { "postcopy-preempt" },
        .end = end_postcopy,
    }, {
        .path = "post-copy/held",
        HELD,
        .end = end_held,
    }, {
        .path = "cut/post-copy/link",
        POSTCOPY,
        .proxied = true,
        .end = end_cut_link,
    }, {
        .path = "cut/post-copy/main",
        POSTCOPY,
        .proxied = true,
        .end = end_cut_main,
    }, {
        .path = "cut/post-copy/resume-first",
        POSTCOPY,
        .proxied = true,
        .end = end_resume_first,
    }, {
        .path = "cut/post-copy/resume-early",
        POSTCOPY,
        .end = end_resume_early,
    }, {
        /* One CPU: another one may go on, and need no page that is withheld */
        .path = "cut/post-copy/pages",
        POSTCOPY,
        .cpus = 1,
        .proxied = true,
        .end = end_lose_pages,
    }, {
        .path = "cut/post-copy/completion",
        POSTCOPY,
        .proxied = true,
        .end = end_lose_completion,
    }, {
        .path = "cut/post-copy/tls",
        POSTCOPY,
        .proxied = true,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_cut_link,
    }, {
        .path = "cut/post-copy/preempt",
        POSTCOPY,
        .proxied = true,
        .capabilities = { "postcopy-preempt" },
        .end = end_cut_link,
    }, {
        .path = "pause/source",
        POSTCOPY,
        .end = end_pause_source,
    }, {
        .path = "pause/destination",
        POSTCOPY,
        .end = end_pause_destination,
    }, {
        .path = "yank/source",
        POSTCOPY,
        .end = end_yank_source,
    }, {
        .path = "yank/destination",
        POSTCOPY,
        .end = end_yank_destination,
    }, {
        .path = "one-way/fifo/pre-copy",
        PRECOPY,
        .main_by = "fifo",
        .capabilities = { "return-path", "switchover-ack" },
        .end = end_completes,
    }, {
        .path = "one-way/fifo/post-copy",
        POSTCOPY,
        .main_by = "fifo",
        .end = end_postcopy,
    }, {
        .path = "one-way/fifo/cut",
        POSTCOPY,
        .main_by = "fifo",
        .proxied = true,
        .end = end_cut_link,
    }, {
        .path = "one-way/fifo/paused",
        POSTCOPY,
        .main_by = "fifo",
        .end = end_pause_source,
    }, {
        .path = "one-way/fifo/cancelled",
        PRECOPY,
        .main_by = "fifo",
        .end = end_cancel_active,
    }, {
        .path = "one-way/exec/pre-copy",
        PRECOPY,
        .main_by = "exec",
        .capabilities = { "return-path", "switchover-ack" },
        .end = end_completes,
    }, {
        .path = "one-way/exec/post-copy",
        POSTCOPY,
        .main_by = "exec",
        .end = end_postcopy,
    }, {
        .path = "one-way/exec/cut",
        POSTCOPY,
        .main_by = "exec",
        .proxied = true,
        .end = end_cut_link,
    }, {
        .path = "one-way/exec/paused",
        POSTCOPY,
        .main_by = "exec",
        .end = end_pause_source,
    }, {
        .path = "one-way/exec/cancelled",
        PRECOPY,
        .main_by = "exec",
        .end = end_cancel_active,
    },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    sw_link_add_cases(cases, ARRAY_SIZE(cases));
    sw_add_return_path_apart_tests();
    sw_add_return_path_stranger_tests();
    sw_add_return_path_leak_tests();
    sw_add_return_path_break_tests();
    sw_add_return_path_pairing_tests();
    sw_add_return_path_input_tests();
    return g_test_run();
}
