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
 * within 60000 ms".
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "switchover/connect-tests.h"
#include "switchover/harness.h"
#include "switchover/transport.h"

#define NO_GUEST "-machine q35 -m 16 -S"
#define CYCLES 100

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

static void migrate_for_real(Fixture *f, const char *args)
{
    g_autofree char *path = g_build_filename(f->dir, "incoming", NULL);
    g_autofree char *dst_args = g_strdup_printf(
        "%s %s -incoming defer", NO_GUEST, args);
    SwVM *dst = sw_vm_new(f->dir, "dst", NULL, dst_args);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);

    if (*args) {
        sw_qmp_ok(dst->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'tls-creds': 'tls' } }");
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
    migrate_for_real(f, "");
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
    migrate_for_real(&f, args);
    fixture_down(&f);
}

typedef struct Counts {
    SwVM *vm;
    unsigned fds;
    unsigned threads;
} Counts;

static bool has_no_more(void *opaque)
{
    Counts *before = opaque;

    return sw_vm_count(before->vm, "fd") <= before->fds &&
           sw_vm_count(before->vm, "task") <= before->threads;
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
    before = (Counts) {
        .vm = f.src,
        .fds = sw_vm_count(f.src, "fd"),
        .threads = sw_vm_count(f.src, "task"),
    };
    for (int i = 0; i < CYCLES; i++) {
        migrate_to(f.src, slow.path);
        cancel(f.src);
    }
    peer_accept_fillers(&slow);
    for (int i = 0; i < CYCLES; i++) {
        expect_closed(peer_accept(&slow));
    }
    sw_wait_until(has_no_more, &before, SW_WAIT_MS,
                  "the descriptors and threads of cancelled connections to go");
    migrate_for_real(&f, "");
    peer_down(&slow);
    fixture_down(&f);
}

void sw_add_connect_tests(void)
{
    g_test_add_func("/switchover/connect/late", test_late);
    g_test_add_func("/switchover/connect/late-error", test_late_error);
    g_test_add_func("/switchover/connect/handshake", test_handshake);
    g_test_add_func("/switchover/connect/again-and-again",
                    test_again_and_again);
}
