/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what every part of the harness needs
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include "switchover/harness.h"

void sw_fail(const char *file, int line, const char *func,
             const char *fmt, ...)
{
    g_autofree char *message = NULL;
    va_list ap;

    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    g_assertion_message(G_LOG_DOMAIN, file, line, func, message);
    abort();
}

int sw_patience(void)
{
    const char *value = g_getenv("SWITCHOVER_PATIENCE");

    return value ? MAX(atoi(value), 1) : 1;
}

int64_t sw_now_us(void)
{
    return g_get_monotonic_time();
}

void sw_wait_until(SwCondition *cond, void *opaque, int timeout_ms,
                   const char *what)
{
    int64_t start_us = sw_now_us();

    while (!cond(opaque)) {
        SW_CHECK(sw_since_ms(start_us) < timeout_ms,
                 "waited %d ms for %s", timeout_ms, what);
        g_usleep(2000);
    }
}

/* A file may be a mount point, left by a FUSE server that was killed */
static void remove_file(const char *path)
{
    if (unlink(path) < 0 && errno == EBUSY) {
        umount2(path, MNT_DETACH);
        unlink(path);
    }
}

/* The tests make no directories inside theirs */
static void remove_dir(void *opaque)
{
    const char *dir = opaque;
    GDir *handle = g_dir_open(dir, 0, NULL);
    const char *name;

    while (handle && (name = g_dir_read_name(handle))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        remove_file(path);
    }
    if (handle) {
        g_dir_close(handle);
    }
    rmdir(dir);
}

char *sw_tmpdir_new(void)
{
    g_autoptr(GError) err = NULL;
    char *dir = g_dir_make_tmp("switchover-XXXXXX", &err);

    SW_CHECK(dir, "cannot make a temporary directory: %s", err->message);
    qtest_add_abrt_handler(remove_dir, dir);
    return dir;
}

void sw_tmpdir_free(char *dir)
{
    qtest_remove_abrt_handler(dir);
    remove_dir(dir);
    g_free(dir);
}

int sw_listen(const char *path)
{
    int fd;

    unlink(path);
    fd = qtest_socket_server(path);
    qemu_set_cloexec(fd);
    return fd;
}

int sw_accept(int listener, const char *what)
{
    struct pollfd pfd = { .fd = listener, .events = POLLIN };
    int fd;

    SW_CHECK(RETRY_ON_EINTR(poll(&pfd, 1, SW_WAIT_MS)) == 1,
             "nobody connected to the %s socket", what);
    fd = RETRY_ON_EINTR(accept(listener, NULL, NULL));
    SW_CHECK(fd >= 0, "accept() on the %s socket: %s", what, strerror(errno));
    qemu_set_cloexec(fd);
    close(listener);
    return fd;
}

static void watchdog_bites(int signum)
{
    static const char text[] =
        "Bail out! switchover: a test is stuck, see its last message above\n";

    if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0) {
        _exit(1);
    }
    abort();
}

void sw_watchdog_start(void)
{
    struct sigaction action = { .sa_handler = watchdog_bites };

    sigaction(SIGALRM, &action, NULL);
    alarm(SW_WATCHDOG_S);
}

void sw_watchdog_stop(void)
{
    alarm(0);
}

bool sw_stock_mode(void)
{
    const char *value = g_getenv("SWITCHOVER_TEST_STOCK");

    return value && g_str_equal(value, "1");
}

const char *sw_env_path(const char *var)
{
    const char *path = g_getenv(var);

    return path && g_file_test(path, G_FILE_TEST_EXISTS) ? path : NULL;
}
