/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: vhost-user backends that are slow or wrong on command
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <sys/un.h>
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "switchover/child.h"
#include "switchover/harness.h"
#include "switchover/vhost-sim.h"

struct SwSim {
    char *name;
    char *log;
    SwChild *child;
    FILE *control;          /* to read from */
    int fd;
};

const char *sw_sim_missing(void)
{
    return sw_env_path("SWITCHOVER_VHOST_SIM") ? NULL :
           "SWITCHOVER_VHOST_SIM names no vhost-user simulator";
}

typedef struct Connection {
    struct sockaddr_un addr;
    int fd;
} Connection;

/* The socket exists a moment before it listens */
static bool is_connected(void *opaque)
{
    Connection *c = opaque;

    return connect(c->fd, (struct sockaddr *)&c->addr, sizeof(c->addr)) == 0;
}

static int connect_to(const char *path)
{
    Connection c = {
        .addr.sun_family = AF_UNIX,
        .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
    };
    struct timeval limit = { .tv_sec = SW_WAIT_MS / 1000 };

    SW_CHECK(strlen(path) < sizeof(c.addr.sun_path), "%s is too long", path);
    strcpy(c.addr.sun_path, path);
    sw_wait_until(is_connected, &c, SW_WAIT_MS, "the vhost-user simulator");
    setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return c.fd;
}

static GPtrArray *make_argv(SwSim *sim, const char *socket,
                            const char *const *devices)
{
    GPtrArray *argv = g_ptr_array_new();

    g_ptr_array_add(argv, (char *)sw_env_path("SWITCHOVER_VHOST_SIM"));
    g_ptr_array_add(argv, (char *)"--ignore-stdin");
    g_ptr_array_add(argv, (char *)"--control");
    g_ptr_array_add(argv, (char *)socket);
    g_ptr_array_add(argv, (char *)"--log");
    g_ptr_array_add(argv, sim->log);
    for (; *devices; devices++) {
        g_ptr_array_add(argv, (char *)*devices);
    }
    g_ptr_array_add(argv, NULL);
    return argv;
}

SwSim *sw_sim_new(const char *dir, const char *name,
                  const char *const *devices)
{
    g_autofree char *socket = g_strdup_printf("%s/%s.control", dir, name);
    g_autoptr(GPtrArray) argv = NULL;
    SwSim *sim = g_new0(SwSim, 1);
    char *why = NULL;

    sim->name = g_strdup(name);
    sim->log = g_strdup_printf("%s/%s.log", dir, name);
    argv = make_argv(sim, socket, devices);
    unlink(socket);
    /* The control socket is what it opens last */
    sim->child = sw_child_new((const char *const *)argv->pdata, socket, &why);
    SW_CHECK(sim->child, "%s: %s", name, why);
    sim->fd = connect_to(socket);
    sim->control = fdopen(dup(sim->fd), "r");
    return sim;
}

void sw_sim_free(SwSim *sim)
{
    if (!sim) {
        return;
    }
    fclose(sim->control);
    close(sim->fd);
    sw_child_free(sim->child);
    g_free(sim->log);
    g_free(sim->name);
    g_free(sim);
}

void sw_sim_freeze(SwSim *sim)
{
    sw_child_freeze(sim->child);
}

void sw_sim_thaw(SwSim *sim)
{
    sw_child_thaw(sim->child);
}

static char *order(SwSim *sim, const char *cmd)
{
    g_autofree char *line = g_strdup_printf("%s\n", cmd);
    size_t len = strlen(line);
    char *answer = NULL, *rest;
    size_t size = 0;

    SW_CHECK(RETRY_ON_EINTR(send(sim->fd, line, len, MSG_NOSIGNAL)) == len,
             "%s: cannot say '%s'", sim->name, cmd);
    SW_CHECK(getline(&answer, &size, sim->control) > 0,
             "%s: no answer to '%s'", sim->name, cmd);
    SW_CHECK(g_str_has_prefix(answer, "OK"), "%s: %s: %s", sim->name, cmd,
             answer);
    rest = g_strdup(g_strstrip(answer + strlen("OK")));
    free(answer);
    return rest;
}

char *sw_sim_order(SwSim *sim, const char *fmt, ...)
{
    g_autofree char *cmd = NULL;
    va_list ap;

    va_start(ap, fmt);
    cmd = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return order(sim, cmd);
}

void sw_sim_do(SwSim *sim, const char *fmt, ...)
{
    g_autofree char *cmd = NULL;
    va_list ap;

    va_start(ap, fmt);
    cmd = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_free(order(sim, cmd));
}

QDict *sw_sim_stats(SwSim *sim, const char *device)
{
    g_autofree char *json = sw_sim_order(sim, "stats %s", device);

    return qobject_to(QDict, qobject_from_json(json, &error_abort));
}

int64_t sw_sim_count(SwSim *sim, const char *device, const char *kind,
                     const char *what)
{
    QDict *stats = sw_sim_stats(sim, device);
    QDict *messages = qdict_get_qdict(stats, "messages");
    QDict *counts = qdict_get_qdict(messages, kind);
    int64_t n = counts ? qdict_get_int(counts, what) : 0;

    qobject_unref(stats);
    return n;
}

int64_t sw_sim_requests(SwSim *sim, const char *device)
{
    QDict *stats = sw_sim_stats(sim, device);
    QListEntry *entry;
    int64_t sum = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(stats, "queues"), entry) {
        QDict *queue = qobject_to(QDict, qlist_entry_obj(entry));

        SW_CHECK(qdict_get_int(queue, "errors") == 0,
                 "%s: %s has seen a bad request", sim->name, device);
        sum += qdict_get_int(queue, "requests");
    }
    qobject_unref(stats);
    return sum;
}

unsigned sw_sim_running(SwSim *sim, const char *device)
{
    QDict *stats = sw_sim_stats(sim, device);
    QListEntry *entry;
    unsigned n = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(stats, "queues"), entry) {
        n += qdict_get_bool(qobject_to(QDict, qlist_entry_obj(entry)),
                            "running");
    }
    qobject_unref(stats);
    return n;
}

bool sw_sim_connected(SwSim *sim, const char *device)
{
    QDict *stats = sw_sim_stats(sim, device);
    bool connected = qdict_get_bool(stats, "connected");

    qobject_unref(stats);
    return connected;
}

int64_t sw_sim_connections(SwSim *sim, const char *device)
{
    QDict *stats = sw_sim_stats(sim, device);
    int64_t n = qdict_get_int(stats, "connections");

    qobject_unref(stats);
    return n;
}

/* What is waited for */
typedef struct Awaited {
    SwSim *sim;
    const char *device;
    int64_t connections;
} Awaited;

static bool has_reconnected(void *opaque)
{
    Awaited *a = opaque;

    return sw_sim_connections(a->sim, a->device) > a->connections;
}

void sw_sim_drop(SwSim *sim, const char *device)
{
    g_autofree char *what = g_strdup_printf("%s to connect again", device);
    Awaited a = {
        .sim = sim,
        .device = device,
        .connections = sw_sim_connections(sim, device),
    };

    sw_sim_do(sim, "drop %s", device);
    sw_wait_until(has_reconnected, &a, SW_WAIT_MS, what);
}

bool sw_sim_holds(SwSim *sim, const char *device)
{
    QDict *stats = sw_sim_stats(sim, device);
    bool held = qdict_get_bool(stats, "held");

    qobject_unref(stats);
    return held;
}

static bool is_held(void *opaque)
{
    Awaited *a = opaque;

    return sw_sim_holds(a->sim, a->device);
}

void sw_sim_wait_held(SwSim *sim, const char *device)
{
    g_autofree char *what = g_strdup_printf("%s to be asked", device);
    Awaited a = { .sim = sim, .device = device };

    sw_wait_until(is_held, &a, SW_WAIT_MS, what);
}

int64_t sw_sim_when(SwSim *sim, const char *device, const char *event,
                    const char *kind, int64_t since_us, bool last)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int64_t found_us = 0;
    int i;

    SW_CHECK(g_file_get_contents(sim->log, &text, NULL, &err),
             "%s: %s", sim->name, err->message);
    lines = g_strsplit(text, "\n", 0);
    for (i = 0; lines[i] && (last || !found_us); i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 0);
        int64_t at_us = words[0] ? g_ascii_strtoll(words[0], NULL, 10) : 0;

        if (at_us >= since_us && g_strv_length(words) >= 4 &&
            g_str_equal(words[1], device) && g_str_equal(words[2], event) &&
            g_str_equal(words[3], kind)) {
            found_us = at_us;
        }
    }
    return found_us;
}
