/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: migrations that are cancelled while nobody reads
 *
 * The destination is stopped with SIGSTOP where the source waits for it other
 * than in the main channel, which migrate_cancel shuts down anyway.  The
 * migration is cancelled within half a second all the same, the guest and the
 * monitor do not notice, and when the destination is continued there is no
 * guest for it.  Another one can have it.
 *
 * What failing looks like, on unpatched QEMU (QTEST_QEMU_BINARY): after
 * migrate_cancel the status is "cancelling" until the destination goes on:
 * "waited 10000 ms for migrate_cancel to take effect".  Where it is different,
 * it is said there.
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/iterations-rig.h"
#include "switchover/iterations-tests.h"
#include "switchover/scenario.h"
#include "switchover/transport.h"

/* More than there are packets with memory in use: each one gets a thread */
#define MANY_CHANNELS 255
/* QEMU's default */
#define MULTIFD_CHANNELS 2

/* So little that the source sleeps, and a socket's buffer takes the rest */
#define CRAWL_BANDWIDTH 65536

/* With such a limit the source sleeps for 100 ms at a time */
#define SLEEP_MS 100
#define LIMITED_CYCLES 15
#define LIMITED_MEDIAN_MS 25

#define TLS                                     \
    .setup = sw_tls_client,                     \
    .at_destination = sw_tls_server

static int64_t heard_by_source(SwRig *rig)
{
    return sw_proxy_passed(rig->proxy, SW_TO_SOURCE);
}

/*
 * The source waits.  Then it is cancelled in time, and the guest can go
 * somewhere else.
 */
static void expect_cancelled(SwRig *rig)
{
    int64_t from_us;

    sw_wait_blocked(rig);
    from_us = sw_now_us() - SW_STILL_MS * 1000;
    sw_probe_mark(rig->src->probe);
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_vm_thaw(rig->dst);
    sw_expect_as_before(rig);
}

/*
 * multifd: the threads of all channels are in the middle of a packet
 */

/* The migration thread waits for one that takes another packet */
static void end_in_ram(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    sw_vm_freeze(rig->dst);
    sw_rig_hasten(rig);
    expect_cancelled(rig);
}

/*
 * There is a channel for every packet.  So all packets of a round are on their
 * way, and the migration thread waits at its end for each of the threads: in a
 * debugger, about half of them have nothing to send.
 */
static void many_channels(SwRig *rig)
{
    sw_vm_set_parameter(rig->src, "multifd-channels", MANY_CHANNELS);
}

static void many_channels_tls(SwRig *rig)
{
    many_channels(rig);
    sw_tls_client(rig);
}

static void listen_to_many(SwRig *rig)
{
    sw_vm_set_parameter(rig->dst, "multifd-channels", MANY_CHANNELS);
}

static void listen_to_many_tls(SwRig *rig)
{
    listen_to_many(rig);
    sw_tls_server(rig);
}

/*
 * Handshakes: what the destination says in that of the main channel is all that
 * it gets to say, so those of the other channels stall.
 */

static bool has_channels(void *opaque)
{
    SwRig *rig = opaque;

    return sw_proxy_connections(rig->proxy) == 1 + MULTIFD_CHANNELS &&
           sw_proxy_kept(rig->proxy, SW_TO_SOURCE) > 0;
}

/* Without multifd, and without a return path: then nothing else is said */
static uint64_t measure_handshake(SwRig *rig)
{
    uint64_t bytes;

    sw_rig_migrate_slowly(rig);
    sw_wait_still(rig, heard_by_source, "the destination to have said all");
    bytes = heard_by_source(rig);
    g_assert_cmpuint(bytes, >, 0);
    sw_cancel(rig);
    sw_expect_on_source(rig);
    sw_rig_renew_destination(rig);
    return bytes;
}

/* The first one is to be measured */
static void listen_later_by_multifd(SwRig *rig)
{
    sw_tls_server(rig);
    if (rig->destinations > 1) {
        sw_vm_set_capability(rig->dst, "multifd");
    }
}

static void end_multifd_handshake(SwRig *rig)
{
    uint64_t bytes = measure_handshake(rig);
    int64_t from_us;

    sw_vm_set_capability(rig->src, "multifd");
    sw_proxy_withhold_after(rig->proxy, SW_TO_SOURCE, bytes);
    from_us = sw_now_us();
    sw_rig_start(rig);
    sw_wait_until(has_channels, rig, SW_WAIT_MS, "the handshakes to stall");
    g_assert_false(sw_status_seen(rig->src->mon, "active"));
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    /* It has not got all channels, and waits for them */
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    sw_expect_working(rig);
    sw_rig_renew_destination(rig);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

/*
 * postcopy-preempt
 */

/* The migration thread waits for a PONG that does not come */
static void end_before_pong(SwRig *rig)
{
    sw_vm_freeze(rig->dst);
    sw_rig_migrate_slowly(rig);
    sw_rig_hasten(rig);
    expect_cancelled(rig);
}

static bool is_preempt_connected(void *opaque)
{
    SwRig *rig = opaque;

    return sw_proxy_connections(rig->proxy) == 2;
}

/*
 * It came, and the source connects the channel for the pages, and waits for the
 * destination's part of the handshake.
 *
 * Unpatched QEMU does that in the main loop: "no answer within 60000 ms" to
 * migrate_cancel.
 */
static void end_preempt_handshake(SwRig *rig)
{
    sw_rig_migrate_slowly(rig);
    sw_wait_still(rig, heard_by_source, "the PONG to come");
    sw_vm_freeze(rig->dst);
    sw_rig_hasten(rig);
    sw_wait_until(is_preempt_connected, rig, SW_WAIT_MS,
                  "the channel for the pages to be connected");
    expect_cancelled(rig);
}

/*
 * A limit for the bandwidth.  The source sleeps most of the time, and is to be
 * woken up.
 *
 * Unpatched QEMU: it sleeps on, for 50 ms on the average.
 */

static gint compare_ms(gconstpointer a, gconstpointer b)
{
    return *(const int64_t *)a < *(const int64_t *)b ? -1 : 1;
}

/* Whoever connects to @listener is accepted, and nothing is read from it */
static int64_t cancel_limited(SwRig *rig, int listener)
{
    int64_t took_ms;
    int fd;

    sw_events_forget(rig->src->mon);
    sw_rig_start(rig);
    fd = sw_accept(dup(listener), "migration");
    sw_status_wait(rig->src->mon, "active");
    g_usleep(g_random_int_range(0, 1000 * SLEEP_MS));
    took_ms = sw_cancel(rig);
    close(fd);
    return took_ms;
}

static void end_limited(SwRig *rig)
{
    g_autofree char *path = g_strdup_printf("%s/deaf", rig->dir);
    g_autofree char *deaf_uri = g_strdup_printf("unix:%s", path);
    int listener = sw_listen(path);
    int64_t took_ms[LIMITED_CYCLES];
    char *uri = rig->uri;

    sw_rig_prepare(rig);
    sw_vm_set_parameter(rig->src, "max-bandwidth", CRAWL_BANDWIDTH);
    rig->uri = deaf_uri;
    for (unsigned i = 0; i < LIMITED_CYCLES; i++) {
        took_ms[i] = cancel_limited(rig, listener);
    }
    rig->uri = uri;
    close(listener);
    qsort(took_ms, LIMITED_CYCLES, sizeof(took_ms[0]), compare_ms);
    SW_CHECK_SOON(took_ms[LIMITED_CYCLES / 2], LIMITED_MEDIAN_MS,
                  "migrate_cancel with a limit, in the median,");
    sw_probe_expect_answers(rig->src->probe);
    sw_events_forget(rig->src->mon);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

static const SwCase cases[] = {
    {
        .path = "cancel/multifd/ram/plain",
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .end = end_in_ram,
    }, {
        .path = "cancel/multifd/ram/tls",
        .full = true,
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        TLS,
        .end = end_in_ram,
    }, {
        .path = "cancel/multifd/sync/plain",
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .setup = many_channels,
        .at_destination = listen_to_many,
        .end = end_in_ram,
    }, {
        .path = "cancel/multifd/sync/tls",
        .full = true,
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .setup = many_channels_tls,
        .at_destination = listen_to_many_tls,
        .end = end_in_ram,
    }, {
        .path = "cancel/multifd/handshake",
        SW_ITERATIONS_GUEST,
        .proxied = true,
        .setup = sw_tls_client,
        .at_destination = listen_later_by_multifd,
        .end = end_multifd_handshake,
    }, {
        .path = "cancel/preempt/pong",
        SW_ITERATIONS_BUSY_GUEST,
        .postcopy = true,
        .capabilities = { "postcopy-preempt" },
        .end = end_before_pong,
    }, {
        .path = "cancel/preempt/handshake",
        SW_ITERATIONS_BUSY_GUEST,
        .postcopy = true,
        .proxied = true,
        .capabilities = { "postcopy-preempt" },
        TLS,
        .end = end_preempt_handshake,
    }, {
        .path = "cancel/limited",
        SW_ITERATIONS_GUEST,
        .end = end_limited,
    },
};

void sw_add_cancel_tests(void)
{
    sw_add_iterations_cases(cases, ARRAY_SIZE(cases));
}
