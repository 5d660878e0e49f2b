/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what its test needs to talk to it
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qjson.h"
#include "client.h"
#include "kinds.h"

struct Sim {
    char *dir;
    GPid pid;
    int input;
    int control;
};

/* It lies beside its test */
char *sim_program(void)
{
    const char *given = g_getenv("VHOST_USER_SIM");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self);

    return given ? g_strdup(given)
                 : g_build_filename(dir, "vhost-user-sim", NULL);
}

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    return RETRY_ON_EINTR(poll(&poll_fd, 1, timeout_ms)) > 0;
}

/* One line without its end; NULL at the end of the input */
static char *read_line(int fd)
{
    g_autoptr(GString) line = g_string_new("");
    char c;

    for (;;) {
        g_assert_true(is_readable(fd, CLIENT_WAIT_MS));
        if (RETRY_ON_EINTR(read(fd, &c, 1)) <= 0) {
            return NULL;
        }
        if (c == '\n') {
            return g_strdup(line->str);
        }
        g_string_append_c(line, c);
    }
}

static char **arguments(const char *args, const char *dir)
{
    g_auto(GStrv) parts = g_strsplit(args, "@", -1);
    g_autofree char *expanded = g_strjoinv(dir, parts);
    g_autofree char *name = sim_program();
    g_autofree char *line = g_strdup_printf("%s %s", name, expanded);
    g_autoptr(GError) err = NULL;
    char **argv;

    g_shell_parse_argv(line, NULL, &argv, &err);
    g_assert_no_error(err);
    return argv;
}

static char *make_directory(void)
{
    g_autoptr(GError) err = NULL;
    char *dir = g_dir_make_tmp("vhost-user-sim-XXXXXX", &err);

    g_assert_no_error(err);
    return dir;
}

static void remove_directory(const char *dir)
{
    g_autoptr(GDir) open = g_dir_open(dir, 0, NULL);
    const char *name;

    while (open && (name = g_dir_read_name(open))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        g_assert_cmpint(unlink(path), ==, 0);
    }
    g_assert_cmpint(rmdir(dir), ==, 0);
}

Sim *sim_start(const char *args)
{
    Sim *sim = g_new0(Sim, 1);
    g_autofree char *all = g_strdup_printf("--control @/control --log @/log %s",
                                           args);
    g_auto(GStrv) argv = NULL;
    g_autofree char *control = NULL;
    g_autofree char *line = NULL;
    g_autoptr(GError) err = NULL;
    int output;

    sim->dir = make_directory();
    argv = arguments(all, sim->dir);
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                             NULL, &sim->pid, &sim->input, &output, NULL, &err);
    g_assert_no_error(err);
    line = read_line(output);
    g_assert_cmpstr(line, ==, "ready");
    close(output);
    control = sim_path(sim, "control");
    sim->control = unix_connect(control, &error_abort);
    return sim;
}

char *sim_start_refused(const char *args)
{
    g_autofree char *dir = make_directory();
    g_auto(GStrv) argv = arguments(args, dir);
    g_autoptr(GError) err = NULL;
    char *text;
    int status;

    g_spawn_sync(NULL, argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                 &text, &status, &err);
    g_assert_no_error(err);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, EXIT_FAILURE);
    remove_directory(dir);
    return text;
}

static void close_pipes(Sim *sim)
{
    close(sim->control);
    close(sim->input);
}

void sim_end(Sim *sim)
{
    int status;

    close_pipes(sim);
    g_assert_cmpint(RETRY_ON_EINTR(waitpid(sim->pid, &status, 0)), ==,
                    sim->pid);
    g_assert_cmpint(status, ==, 0);
    remove_directory(sim->dir);
    g_free(sim->dir);
    g_free(sim);
}

char *sim_path(Sim *sim, const char *name)
{
    return g_build_filename(sim->dir, name, NULL);
}

pid_t sim_pid(Sim *sim)
{
    return sim->pid;
}

/* ---- commands ------------------------------------------------------------ */

static char *command(Sim *sim, const char *text)
{
    g_autofree char *line = g_strdup_printf("%s\n", text);
    char *answer;

    g_assert_cmpint(send(sim->control, line, strlen(line), MSG_NOSIGNAL), ==,
                    strlen(line));
    answer = read_line(sim->control);
    g_assert_nonnull(answer);
    return answer;
}

char *sim_command(Sim *sim, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return command(sim, text);
}

char *sim_ok(Sim *sim, const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *answer = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    answer = command(sim, text);
    if (!g_str_has_prefix(answer, "OK ")) {
        g_error("%s: %s", text, answer);
    }
    return g_strdup(answer + strlen("OK "));
}

QDict *sim_stats(Sim *sim, const char *device)
{
    g_autofree char *json = sim_ok(sim, "stats %s", device);

    return qobject_to(QDict, qobject_from_json(json, &error_abort));
}

int64_t sim_count(Sim *sim, const char *device, const char *kind,
                  const char *what)
{
    g_autoptr(QDict) stats = sim_stats(sim, device);
    QDict *messages = qdict_get_qdict(stats, "messages");
    QDict *counts = qdict_get_qdict(messages, kind);

    return counts ? qdict_get_int(counts, what) : 0;
}

/* Somebody else's counter: there is nothing to sleep on but time */
static void pause_or_fail(int64_t end_us, const char *what)
{
    if (g_get_monotonic_time() > end_us) {
        g_error("waited %d ms for %s", CLIENT_WAIT_MS, what);
    }
    g_usleep(500);
}

void sim_wait_count(Sim *sim, const char *device, const char *kind,
                    const char *what, int64_t count)
{
    int64_t end_us = g_get_monotonic_time() + CLIENT_WAIT_MS * 1000LL;

    while (sim_count(sim, device, kind, what) < count) {
        pause_or_fail(end_us, kind);
    }
}

void sim_wait_held(Sim *sim, const char *device, bool held)
{
    int64_t end_us = g_get_monotonic_time() + CLIENT_WAIT_MS * 1000LL;

    for (;;) {
        g_autoptr(QDict) stats = sim_stats(sim, device);

        if (qdict_get_bool(stats, "held") == held) {
            return;
        }
        pause_or_fail(end_us, "a message to be held, or not");
    }
}

GPtrArray *sim_log(Sim *sim, const char *device)
{
    g_autofree char *path = sim_path(sim, "log");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    GPtrArray *log = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    int i;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (i = 0; lines[i] && lines[i][0]; i++) {
        char **words = g_strsplit(lines[i], " ", -1);

        g_assert_cmpint(g_strv_length(words), ==, 6);
        if (g_str_equal(words[1], device)) {
            g_ptr_array_add(log, words);
        } else {
            g_strfreev(words);
        }
    }
    return log;
}

/* ---- a frontend's connection --------------------------------------------- */

int fe_connect(Sim *sim, const char *socket_name)
{
    g_autofree char *path = sim_path(sim, socket_name);
    int fd = unix_connect(path, &error_abort);

    qemu_socket_set_block(fd);
    return fd;
}

void fe_send(int fd, unsigned kind, uint32_t flags, const void *payload,
             uint32_t size, const int *fds, unsigned n_fds)
{
    SimMessage msg = {
        .hdr = { kind, SIM_FLAG_VERSION | flags, size }, .n_fds = n_fds,
    };

    memcpy(msg.payload, payload, size);
    if (n_fds) {
        memcpy(msg.fds, fds, n_fds * sizeof(int));
    }
    sim_message_send(fd, &msg, &error_abort);
}

void fe_send_u64(int fd, unsigned kind, uint64_t value)
{
    fe_send(fd, kind, 0, &value, sizeof(value), NULL, 0);
}

void fe_send_fd(int fd, unsigned kind, uint64_t value, int with)
{
    fe_send(fd, kind, 0, &value, sizeof(value), &with, 1);
}

void fe_send_state(int fd, unsigned kind, uint32_t index, uint32_t num)
{
    uint32_t state[] = { index, num };

    fe_send(fd, kind, 0, state, sizeof(state), NULL, 0);
}

SimMessage *fe_receive(int fd)
{
    SimMessage *msg;

    g_assert_true(is_readable(fd, CLIENT_WAIT_MS));
    msg = sim_message_receive(fd, &error_abort);
    g_assert_nonnull(msg);
    return msg;
}

bool fe_is_closed(int fd)
{
    char c;

    g_assert_true(is_readable(fd, CLIENT_WAIT_MS));
    return recv(fd, &c, 1, MSG_PEEK) <= 0;
}

bool fe_has_input(int fd)
{
    return is_readable(fd, 0);
}

uint64_t fe_receive_u64(int fd, unsigned kind)
{
    g_autoptr(SimMessage) msg = fe_receive(fd);

    g_assert_cmpstr(sim_kind_name(msg->hdr.kind), ==, sim_kind_name(kind));
    g_assert_cmphex(msg->hdr.flags, ==, SIM_FLAG_VERSION | SIM_FLAG_REPLY);
    g_assert_cmpint(msg->hdr.size, ==, sizeof(uint64_t));
    return sim_message_u64(msg);
}

void fe_hello(int fd)
{
    uint64_t features, protocol;

    fe_send(fd, VHOST_USER_GET_FEATURES, 0, "", 0, NULL, 0);
    features = fe_receive_u64(fd, VHOST_USER_GET_FEATURES);
    fe_send(fd, VHOST_USER_GET_PROTOCOL_FEATURES, 0, "", 0, NULL, 0);
    protocol = fe_receive_u64(fd, VHOST_USER_GET_PROTOCOL_FEATURES);
    fe_send_u64(fd, VHOST_USER_SET_PROTOCOL_FEATURES, protocol &
                (1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK));
    fe_send(fd, VHOST_USER_SET_OWNER, 0, "", 0, NULL, 0);
    fe_send_u64(fd, VHOST_USER_SET_FEATURES, features &
                (1ull << VIRTIO_F_VERSION_1 |
                 1ull << VHOST_USER_F_PROTOCOL_FEATURES));
    /* Commands are obeyed beside this connection, so all of it is done now */
    fe_send(fd, VHOST_USER_GET_QUEUE_NUM, 0, "", 0, NULL, 0);
    fe_receive_u64(fd, VHOST_USER_GET_QUEUE_NUM);
}
