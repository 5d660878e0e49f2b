/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a return path with a socket of its own
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <sys/un.h>
#include "qemu/cutils.h"
#include "qobject/qdict.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-rig.h"
#include "switchover/return-path-tests.h"

/* The source of a migration never has nothing to say for so long */
#define STILL_MS 500

/* Enough heartbeats to be no accident */
#define PROOF_BEATS 20

void sw_link_expect_said(SwRig *rig, const char *says)
{
    g_autofree char *said = NULL;

    if (rig->dst_stderr) {
        g_assert(g_file_get_contents(rig->dst_stderr, &said, NULL, NULL));
        SW_CHECK(strstr(said, says), "the destination does not say '%s': %s",
                 says, said);
    }
}

void sw_link_expect_refused(SwRig *rig, const char *says)
{
    g_autofree char *state = NULL;

    sw_status_wait(rig->src->mon, "failed");
    sw_expect_migration_error(rig->src, says);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "STOP"), ==, 0);
    sw_guest_wait_beats(rig->src->guest, PROOF_BEATS);
    state = sw_vm_run_state(rig->src);
    g_assert_cmpstr(state, ==, "running");
    g_assert_cmpuint(sw_guest_beats(rig->dst->guest), ==, 0);
    sw_expect_working(rig);
}

void sw_link_expect_usable(SwRig *rig)
{
    g_assert_true(sw_vm_in_state(rig->dst, "inmigrate"));
    sw_events_forget(rig->src->mon);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

void sw_link_enter_postcopy(SwRig *rig)
{
    sw_hold_limit(rig);
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "postcopy-active");
    sw_status_wait(rig->dst->mon, "postcopy-active");
    sw_vm_wait_state(rig->dst, "running");
}

/* Nothing makes the source run */
static void expect_source_is_still(SwRig *rig)
{
    unsigned beats = sw_guest_beats(rig->src->guest);

    qobject_unref(sw_qmp_try(rig->src->mon, "{ 'execute': 'cont' }"));
    sw_guest_wait_silence(rig->src->guest, 300);
    g_assert_false(sw_vm_in_state(rig->src, "running"));
    g_assert_cmpuint(sw_guest_beats(rig->src->guest), ==, beats);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "RESUME"), ==, 0);
}

void sw_link_expect_paused(SwRig *rig)
{
    sw_status_wait(rig->src->mon, "postcopy-paused");
    sw_status_wait(rig->dst->mon, "postcopy-paused");
    expect_source_is_still(rig);
}

void sw_link_recover(SwRig *rig)
{
    sw_hold_unlimit(rig);
    sw_rig_listen_again(rig);
    sw_rig_resume(rig);
    sw_expect_completed(rig);
}

typedef struct Still {
    SwProxy *proxy;
    size_t (*count)(SwProxy *, SwDirection);
    size_t bytes;
    int64_t since_us;
} Still;

/* For longer than it takes to stop */
static bool is_still(void *opaque)
{
    Still *still = opaque;
    size_t bytes = still->count(still->proxy, SW_TO_DESTINATION);

    if (bytes != still->bytes) {
        still->bytes = bytes;
        still->since_us = sw_now_us();
    }
    return bytes && sw_since_ms(still->since_us) >= STILL_MS;
}

void sw_link_wait_still(SwProxy *proxy,
                        size_t (*count)(SwProxy *, SwDirection),
                        const char *what)
{
    Still still = { .proxy = proxy, .count = count };

    sw_wait_until(is_still, &still, SW_WAIT_MS, what);
}

static void set_path(struct sockaddr_un *addr, const char *uri)
{
    const char *path;

    g_assert(strstart(uri, "unix:", &path));
    addr->sun_family = AF_UNIX;
    g_assert(g_strlcpy(addr->sun_path, path, sizeof(addr->sun_path)) <
             sizeof(addr->sun_path));
}

int sw_link_stranger(const char *uri, const void *text, size_t size)
{
    struct sockaddr_un addr = { 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    set_path(&addr, uri);
    SW_CHECK(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
             "a stranger cannot connect to %s: %s", uri, strerror(errno));
    /* It may be closed already */
    if (size && send(fd, text, size, MSG_NOSIGNAL) < 0) {
        g_assert_cmpint(errno, ==, EPIPE);
    }
    return fd;
}

int sw_link_deaf(const char *uri)
{
    struct sockaddr_un addr = { 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    set_path(&addr, uri);
    SW_CHECK(!bind(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
             !listen(fd, 8), "cannot listen at %s: %s", uri, strerror(errno));
    return fd;
}

static void run_case(const void *opaque)
{
    const SwCase *c = opaque;
    SwRig *rig = sw_rig_new(c);

    if (rig) {
        c->end(rig);
        sw_rig_free(rig);
    }
}

void sw_link_add_cases(const SwCase *cases, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        sw_add_case(SW_LINK_SUITE, &cases[i], run_case);
    }
}
