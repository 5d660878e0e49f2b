/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: migrations that are cancelled before they are connected
 *
 * The peer decides how far a connection comes: it does not accept, or it
 * accepts and says nothing, on which TLS waits.  No guest is needed.
 *
 * What failing looks like: unpatched QEMU refuses the next "migrate" with
 * "duplicate yank instance", and sends the guest to the peer that was given up.
 * In the handshake its monitor is silent for as long as the peer is: "no answer
 * within 60000 ms".  With multifd: "waited 10000 ms for migrate_cancel to take
 * effect".
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include "switchover/connect-tests.h"
#include "switchover/harness.h"
#include "switchover/transport.h"

#define NO_GUEST "-machine q35 -m 16 -S"
#define CYCLES 100

/* QEMU's default */
#define MULTIFD_CHANNELS 2
#define CANCEL_LIMIT_MS 500

/* A peer, and what was connected to it so that nobody else can be */
typedef struct Peer {
    char *path;
    int listener;
    GArray *fillers;
} Peer;

typedef struct Fixture {
    char *dir;
    SwVM *src;
} Fixture;

static void fixture_up(Fixture *f)
{
    sw_watchdog_start();
    f->dir = sw_tmpdir_new();
    f->src = sw_vm_new(f->dir, "src", NULL, NO_GUEST);
}

static void fixture_down(Fixture *f)
{
    sw_vm_free(f->src);
    sw_tmpdir_free(f->dir);
    sw_watchdog_stop();
}

static bool try_to_connect(Peer *peer)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_strlcpy(addr.sun_path, peer->path, sizeof(addr.sun_path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
        close(fd);
        return false;
    }
    g_array_append_val(peer->fillers, fd);
    return true;
}

static void peer_up(Peer *peer, Fixture *f, const char *name)
{
    peer->path = g_build_filename(f->dir, name, NULL);
    peer->listener = sw_listen(peer->path);
    peer->fillers = g_array_new(false, false, sizeof(int));
}

/* Whoever connects from now on waits, in connect() */
static void peer_fill(Peer *peer)
{
    g_assert_cmpint(listen(peer->listener, 0), ==, 0);
    while (try_to_connect(peer)) {
        continue;
    }
}

static void peer_down(Peer *peer)
{
    for (unsigned i = 0; i < peer->fillers->len; i++) {
        close(g_array_index(peer->fillers, int, i));
    }
    g_array_free(peer->fillers, true);
    close(peer->listener);
    g_free(peer->path);
}

static int peer_accept(Peer *peer)
{
    return sw_accept(dup(peer->listener), peer->path);
}

/* Those that keep the others waiting */
static void peer_accept_fillers(Peer *peer)
{
    for (unsigned i = 0; i < peer->fillers->len; i++) {
        close(peer_accept(peer));
    }
}

/* What the other side sent first; 0 bytes if it closed instead */
static ssize_t first_bytes(int fd, char *buf, size_t size)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    SW_CHECK(RETRY_ON_EINTR(poll(&pfd, 1, SW_WAIT_MS)) == 1,
             "the connection is neither used nor closed");
    return recv(fd, buf, size, 0);
}

static void expect_closed(int fd)
{
    char buf[4];
    ssize_t len = first_bytes(fd, buf, sizeof(buf));

    SW_CHECK(len <= 0, "the guest is migrated to whom it was not to be");
    close(fd);
}

static void expect_stream(int fd)
{
    char buf[4];

    g_assert_cmpint(first_bytes(fd, buf, sizeof(buf)), ==, 4);
    g_assert_cmpint(memcmp(buf, "QEVM", 4), ==, 0);
    close(fd);
}

static void migrate_to(SwVM *vm, const char *path)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", path);

    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }",
              uri);
}

/* Cancelled means cancelled: there is nothing left to wait for */
static void cancel(SwVM *vm)
{
    g_autofree char *status = NULL;
    QDict *info;

    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate_cancel' }");
    info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    status = g_strdup(qdict_get_str(info, "status"));
    qobject_unref(info);
    g_assert_cmpstr(status, ==, "cancelled");
    sw_events_forget(vm->mon);
}

/* @prepare: makes the destination ready, or NULL */
static void migrate_for_real(Fixture *f, const char *args,
                             void (*prepare)(SwVM *dst))
{
    g_autofree char *path = g_build_filename(f->dir, "incoming", NULL);
    g_autofree char *dst_args = g_strdup_printf(
        "%s %s -incoming defer", NO_GUEST, args);
    SwVM *dst = sw_vm_new(f->dir, "dst", NULL, dst_args);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);

    if (prepare) {
        prepare(dst);
    }
    sw_qmp_ok(dst->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'uri': %s } }", uri);
    migrate_to(f->src, path);
    sw_status_wait(f->src->mon, "completed");
    sw_status_wait(dst->mon, "completed");
    sw_vm_free(dst);
}

/* One connection is given up, and another one is on its way */
static void cancel_for_another(Fixture *f, Peer *old, Peer *new)
{
    fixture_up(f);
    peer_up(old, f, "old");
    peer_up(new, f, "new");
    peer_fill(old);
    peer_fill(new);

    migrate_to(f->src, old->path);
    cancel(f->src);
    migrate_to(f->src, new->path);
}

/* That one comes about, and fails; there can be a third */
static void expect_the_other(Fixture *f, Peer *new)
{
    peer_accept_fillers(new);
    expect_stream(peer_accept(new));
    sw_status_wait(f->src->mon, "failed");
    sw_events_forget(f->src->mon);
    migrate_for_real(f, "", NULL);
    peer_down(new);
}

/* The old connection comes about while the next one is on its way */
static void test_late(void)
{
    Peer old, new;
    Fixture f;

    cancel_for_another(&f, &old, &new);

    peer_accept_fillers(&old);
    expect_closed(peer_accept(&old));
    g_assert_false(sw_status_seen(f.src->mon, "active"));
    expect_the_other(&f, &new);
    peer_down(&old);
    fixture_down(&f);
}

/* The old connection fails while the next one is on its way */
static void test_late_error(void)
{
    Peer old, new;
    Fixture f;

    cancel_for_another(&f, &old, &new);
    peer_down(&old);

    expect_the_other(&f, &new);
    fixture_down(&f);
}

static void use_server_creds(SwVM *dst)
{
    sw_qmp_ok(dst->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'tls-creds': 'tls' } }");
}

/* The peer is connected, and does not say what the handshake waits for */
static void test_handshake(void)
{
    g_autofree char *args = NULL;
    char buf[4096];
    Fixture f;
    Peer silent;
    int fd;

    fixture_up(&f);
    sw_vm_use_tls(f.src, f.dir, "client");
    peer_up(&silent, &f, "silent");
    migrate_to(f.src, silent.path);
    fd = peer_accept(&silent);
    g_assert_cmpint(first_bytes(fd, buf, sizeof(buf)), >, 0);
    cancel(f.src);
    expect_closed(fd);
    peer_down(&silent);

    args = g_strdup_printf("-object tls-creds-psk,id=tls,endpoint=server,"
                           "dir=%s", f.dir);
    migrate_for_real(&f, args, use_server_creds);
    fixture_down(&f);
}

typedef struct Counts {
    SwVM *vm;
    unsigned fds;
    unsigned threads;
} Counts;

static Counts count(SwVM *vm)
{
    return (Counts) {
        .vm = vm,
        .fds = sw_vm_count(vm, "fd"),
        .threads = sw_vm_count(vm, "task"),
    };
}

static bool has_no_more(void *opaque)
{
    Counts *before = opaque;

    return sw_vm_count(before->vm, "fd") <= before->fds &&
           sw_vm_count(before->vm, "task") <= before->threads;
}

static void expect_no_more(Counts *before)
{
    sw_wait_until(has_no_more, before, SW_WAIT_MS,
                  "the descriptors and threads of cancelled connections to go");
}

/* However often, and with all of the connections on their way at once */
static void test_again_and_again(void)
{
    Counts before;
    Fixture f;
    Peer slow;

    fixture_up(&f);
    peer_up(&slow, &f, "slow");
    peer_fill(&slow);
    before = count(f.src);
    for (int i = 0; i < CYCLES; i++) {
        migrate_to(f.src, slow.path);
        cancel(f.src);
    }
    peer_accept_fillers(&slow);
    for (int i = 0; i < CYCLES; i++) {
        expect_closed(peer_accept(&slow));
    }
    expect_no_more(&before);
    migrate_for_real(&f, "", NULL);
    peer_down(&slow);
    fixture_down(&f);
}

/*
 * multifd: the main channel is connected, and there is no room for another one
 */

static void use_multifd(SwVM *vm)
{
    sw_vm_set_capability(vm, "multifd");
}

typedef struct Pending {
    SwVM *vm;
    unsigned n;
} Pending;

static bool are_connecting(void *opaque)
{
    Pending *p = opaque;

    return sw_vm_count_in_call(p->vm, SYS_connect) == p->n;
}

/* @pending: channels of other migrations that are on their way */
static void migrate_by_multifd(Fixture *f, Peer *peer, unsigned pending)
{
    Pending p = { .vm = f->src, .n = pending + MULTIFD_CHANNELS };

    g_assert_cmpint(listen(peer->listener, 0), ==, 0);
    migrate_to(f->src, peer->path);
    sw_wait_until(are_connecting, &p, SW_WAIT_MS,
                  "the channels of multifd to connect");
}

static bool is_cancelled(void *opaque)
{
    SwVM *vm = opaque;

    return sw_status_seen(vm->mon, "cancelled");
}

static void cancel_in_time(SwVM *vm)
{
    int64_t asked_us = sw_now_us();

    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate_cancel' }");
    sw_wait_until(is_cancelled, vm, 10000 * sw_patience(),
                  "migrate_cancel to take effect");
    g_test_message("cancelled after %d ms", (int)sw_since_ms(asked_us));
    SW_CHECK_SOON(sw_since_ms(asked_us), CANCEL_LIMIT_MS, "migrate_cancel");
    sw_events_forget(vm->mon);
}

/* The main channel, and then the others, which come too late */
static void expect_all_closed(Peer *peer)
{
    char buf[4096];
    int fd = peer_accept(peer);

    while (first_bytes(fd, buf, sizeof(buf)) > 0) {
        continue;
    }
    close(fd);
    for (int i = 0; i < MULTIFD_CHANNELS; i++) {
        expect_closed(peer_accept(peer));
    }
}

/*
 * Those of one migration come about while those of the next one are on their
 * way, and these fail after it was cancelled, too.
 */
static void test_multifd(void)
{
    Counts before;
    Peer old, new;
    Fixture f;

    fixture_up(&f);
    use_multifd(f.src);
    peer_up(&old, &f, "old");
    peer_up(&new, &f, "new");
    before = count(f.src);

    migrate_by_multifd(&f, &old, 0);
    cancel_in_time(f.src);
    migrate_by_multifd(&f, &new, MULTIFD_CHANNELS);
    expect_all_closed(&old);
    g_assert_false(sw_status_seen(f.src->mon, "active"));
    g_assert_false(sw_status_seen(f.src->mon, "failed"));
    cancel_in_time(f.src);
    peer_down(&new);
    expect_no_more(&before);

    migrate_for_real(&f, "", use_multifd);
    peer_down(&old);
    fixture_down(&f);
}

void sw_add_connect_tests(void)
{
    g_test_add_func("/switchover/connect/late", test_late);
    g_test_add_func("/switchover/connect/late-error", test_late_error);
    g_test_add_func("/switchover/connect/handshake", test_handshake);
    g_test_add_func("/switchover/connect/again-and-again",
                    test_again_and_again);
    g_test_add_func("/switchover/connect/multifd", test_multifd);
}
