/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the proxy itself, on which tests of broken networks stand
 *
 * What failing looks like: bytes are there that were to be kept, or the wait
 * for those that were let go does not end.
 */

#include "qemu/osdep.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>
#include "switchover/harness.h"
#include "switchover/proxy.h"
#include "switchover/proxy-tests.h"

#define MIB (1024 * 1024)

typedef struct Fixture {
    char *dir;
    int listener;
    SwProxy *proxy;
} Fixture;

static void fixture_up(Fixture *f, const char *listen_at)
{
    g_autofree char *near = NULL;
    g_autofree char *far = NULL;

    sw_watchdog_start();
    f->dir = sw_tmpdir_new();
    near = g_build_filename(f->dir, "near", NULL);
    far = g_build_filename(f->dir, "far", NULL);
    f->listener = sw_listen(far);
    f->proxy = sw_proxy_new(listen_at ?: near, far);
}

static void fixture_down(Fixture *f)
{
    sw_proxy_free(f->proxy);
    close(f->listener);
    sw_tmpdir_free(f->dir);
    sw_watchdog_stop();
}

/* The two ends of a connection through the proxy */
static void connect_both(Fixture *f, int *near, int *far)
{
    const char *uri = sw_proxy_uri(f->proxy);

    if (g_str_has_prefix(uri, "unix:")) {
        struct sockaddr_un addr = { .sun_family = AF_UNIX };

        g_strlcpy(addr.sun_path, uri + 5, sizeof(addr.sun_path));
        *near = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert(connect(*near, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    } else {
        struct sockaddr_in addr = {
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
            .sin_port = htons(atoi(strrchr(uri, ':') + 1)),
        };

        *near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert(connect(*near, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    }
    *far = sw_accept(dup(f->listener), "far");
}

/* One of those that are to come; or -1 at the end */
static int read_byte(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    unsigned char c;

    SW_CHECK(RETRY_ON_EINTR(poll(&pfd, 1, SW_WAIT_MS)) == 1,
             "nothing came through the proxy");
    return recv(fd, &c, 1, 0) == 1 ? c : -1;
}

static void expect_nothing(int fd)
{
    char c;

    g_assert_cmpint(recv(fd, &c, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
}

static bool keeps_two(void *opaque)
{
    return sw_proxy_kept(opaque, SW_TO_DESTINATION) == 2;
}

static void do_test_withhold_after(const char *listen_at)
{
    Fixture f;
    int near, far;

    fixture_up(&f, listen_at);
    connect_both(&f, &near, &far);
    sw_proxy_withhold_after(f.proxy, SW_TO_DESTINATION, 3);
    g_assert(send(near, "abcde", 5, 0) == 5);
    sw_wait_until(keeps_two, f.proxy, SW_WAIT_MS, "two bytes to be kept");
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(read_byte(far), ==, "abc"[i]);
    }
    expect_nothing(far);
    g_assert_cmpuint(sw_proxy_passed(f.proxy, SW_TO_DESTINATION), ==, 3);

    /* The other direction is its own */
    g_assert(send(far, "x", 1, 0) == 1);
    g_assert_cmpint(read_byte(near), ==, 'x');

    sw_proxy_let_go(f.proxy);
    g_assert_cmpint(read_byte(far), ==, 'd');
    g_assert_cmpint(read_byte(far), ==, 'e');
    close(near);
    g_assert_cmpint(read_byte(far), ==, -1);
    close(far);
    fixture_down(&f);
}

static void test_withhold_after(void)
{
    do_test_withhold_after(NULL);
    do_test_withhold_after("tcp:127.0.0.1:0");
}

/* Whoever sends has to wait, and what was sent comes in order */
static void test_stall(void)
{
    g_autofree char *buf = g_malloc0(MIB);
    size_t sent = 0;
    ssize_t len;
    Fixture f;
    int near, far;

    fixture_up(&f, NULL);
    connect_both(&f, &near, &far);
    sw_proxy_stall(f.proxy, SW_TO_DESTINATION);
    while ((len = send(near, buf, MIB, MSG_DONTWAIT)) > 0) {
        sent += len;
        SW_CHECK(sent < 64 * MIB, "a proxy that is stalled takes all");
    }
    expect_nothing(far);
    g_assert(send(far, "x", 1, 0) == 1);
    g_assert_cmpint(read_byte(near), ==, 'x');

    sw_proxy_let_go(f.proxy);
    for (size_t i = 0; i < sent; i += len) {
        len = recv(far, buf, MIN(MIB, sent - i), 0);
        g_assert_cmpint(len, >, 0);
    }
    close(near);
    g_assert_cmpint(read_byte(far), ==, -1);
    close(far);
    fixture_down(&f);
}

static void test_cut_one(void)
{
    int near[2], far[2];
    Fixture f;

    fixture_up(&f, NULL);
    for (int i = 0; i < 2; i++) {
        connect_both(&f, &near[i], &far[i]);
    }
    g_assert_cmpuint(sw_proxy_connections(f.proxy), ==, 2);
    sw_proxy_cut_one(f.proxy, 0);
    g_assert_cmpint(read_byte(near[0]), ==, -1);
    g_assert_cmpint(read_byte(far[0]), ==, -1);
    g_assert(send(near[1], "x", 1, 0) == 1);
    g_assert_cmpint(read_byte(far[1]), ==, 'x');
    sw_proxy_cut(f.proxy);
    g_assert_cmpint(read_byte(near[1]), ==, -1);
    for (int i = 0; i < 2; i++) {
        close(near[i]);
        close(far[i]);
    }
    fixture_down(&f);
}

void sw_add_proxy_tests(void)
{
    g_test_add_func("/switchover/proxy/withhold-after", test_withhold_after);
    g_test_add_func("/switchover/proxy/stall", test_stall);
    g_test_add_func("/switchover/proxy/cut-one", test_cut_one);
}
