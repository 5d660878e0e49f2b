/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: commands over a socket
 */

#include "qemu/osdep.h"
#include <glib-unix.h>
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "control.h"
#include "device.h"

#define LINE_MAX_LEN 4096

struct SimControl {
    char *path;
    const GPtrArray *devices;
    GMainLoop *quit;
    int listen_fd;
    guint source;
    GList *clients;
};

typedef struct Client {
    SimControl *control;
    int fd;
    guint source;
    GString *input;
} Client;

/* Runs a command on one device; false if it did not apply to this one */
typedef bool Order(SimDevice *dev, void *opaque);

/* ---- devices ------------------------------------------------------------- */

static bool is_pattern(const char *name)
{
    return strpbrk(name, "*?");
}

/* How many devices it was applied to, -1 with an error if none matches */
static int for_devices(SimControl *control, const char *pattern, Order *order,
                       void *opaque, Error **errp)
{
    bool found = false;
    int n = 0;
    unsigned i;

    for (i = 0; i < control->devices->len; i++) {
        SimDevice *dev = g_ptr_array_index(control->devices, i);

        if (g_pattern_match_simple(pattern, dev->config->name)) {
            found = true;
            n += order(dev, opaque);
        }
    }
    if (!found) {
        error_setg(errp, "no device '%s'", pattern);
        return -1;
    }
    return n;
}

static char *number_reply(int n)
{
    return n < 0 ? NULL : g_strdup_printf("%d", n);
}

static bool order_reset(SimDevice *dev, void *opaque)
{
    sim_device_reset_stats(dev);
    return true;
}

static bool order_clear(SimDevice *dev, void *opaque)
{
    sim_device_clear_faults(dev);
    return true;
}

static bool order_resume(SimDevice *dev, void *opaque)
{
    return sim_device_resume(dev);
}

static bool order_drop(SimDevice *dev, void *opaque)
{
    return sim_device_drop(dev);
}

static bool order_fault(SimDevice *dev, void *fault)
{
    sim_device_add_fault(dev, fault);
    return true;
}

static bool order_latency(SimDevice *dev, void *latency)
{
    sim_device_set_latency(dev, latency);
    return true;
}

static bool order_describe(SimDevice *dev, void *list)
{
    qlist_append(list, sim_device_describe(dev));
    return true;
}

/* ---- commands: what follows OK, or NULL with an error -------------------- */

typedef char *Command(SimControl *control, char **words, Error **errp);

static char *cmd_list(SimControl *control, char **words, Error **errp)
{
    GString *names = g_string_new("");
    unsigned i;

    for (i = 0; i < control->devices->len; i++) {
        SimDevice *dev = g_ptr_array_index(control->devices, i);

        g_string_append_printf(names, "%s%s", i ? " " : "", dev->config->name);
    }
    return g_string_free(names, false);
}

static char *cmd_quit(SimControl *control, char **words, Error **errp)
{
    g_main_loop_quit(control->quit);
    return g_strdup("");
}

static char *cmd_stats(SimControl *control, char **words, Error **errp)
{
    g_autoptr(QList) list = qlist_new();
    g_autoptr(GString) json = NULL;

    if (for_devices(control, words[0], order_describe, list, errp) < 0) {
        return NULL;
    }
    json = qobject_to_json(is_pattern(words[0]) ? QOBJECT(list)
                                                : qlist_peek(list));
    return g_strdup(json->str);
}

static char *cmd_reset(SimControl *control, char **words, Error **errp)
{
    return number_reply(for_devices(control, words[0], order_reset, NULL,
                                    errp));
}

static char *cmd_clear(SimControl *control, char **words, Error **errp)
{
    return number_reply(for_devices(control, words[0], order_clear, NULL,
                                    errp));
}

/* An order that should have been for somebody */
static char *some(int n, const char *what, Error **errp)
{
    if (!n) {
        error_setg(errp, "none of these devices %s", what);
        return NULL;
    }
    return number_reply(n);
}

static char *cmd_resume(SimControl *control, char **words, Error **errp)
{
    return some(for_devices(control, words[0], order_resume, NULL, errp),
                "holds a message", errp);
}

static char *cmd_drop(SimControl *control, char **words, Error **errp)
{
    return some(for_devices(control, words[0], order_drop, NULL, errp),
                "is connected", errp);
}

static char *cmd_fault(SimControl *control, char **words, Error **errp)
{
    SimFault fault;

    if (!sim_fault_parse(&fault, words + 1, errp)) {
        return NULL;
    }
    return number_reply(for_devices(control, words[0], order_fault, &fault,
                                    errp));
}

static bool parse_latency(char **words, SimLatency *latency, Error **errp)
{
    if (g_str_equal(words[0], "off") && !words[1]) {
        return true;
    }
    if (!words[1] || words[2]) {
        error_setg(errp, "latency DEVICES MODE KIND:US[,...], or off");
        return false;
    }
    return sim_latency_mode_parse(words[0], &latency->mode, errp) &&
           sim_latency_parse(latency, words[1], errp);
}

static char *cmd_latency(SimControl *control, char **words, Error **errp)
{
    SimLatency latency = {};

    if (!parse_latency(words + 1, &latency, errp)) {
        return NULL;
    }
    return number_reply(for_devices(control, words[0], order_latency, &latency,
                                    errp));
}

static const struct {
    const char *name;
    int min, max;       /* words behind the name */
    Command *run;
} commands[] = {
    { "list", 0, 0, cmd_list },
    { "stats", 1, 1, cmd_stats },
    { "reset", 1, 1, cmd_reset },
    { "latency", 2, 3, cmd_latency },
    { "fault", 3, 16, cmd_fault },
    { "clear", 1, 1, cmd_clear },
    { "resume", 1, 1, cmd_resume },
    { "drop", 1, 1, cmd_drop },
    { "quit", 0, 0, cmd_quit },
};

/* Several spaces are one */
static char **split(const char *line)
{
    g_auto(GStrv) raw = g_strsplit_set(line, " \t\r", -1);
    GPtrArray *words = g_ptr_array_new();
    int i;

    for (i = 0; raw[i]; i++) {
        if (raw[i][0]) {
            g_ptr_array_add(words, g_strdup(raw[i]));
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, false);
}

static char *obey(SimControl *control, const char *line, Error **errp)
{
    g_auto(GStrv) words = split(line);
    int n = (int)g_strv_length(words) - 1;
    int i;

    for (i = 0; n >= 0 && i < ARRAY_SIZE(commands); i++) {
        if (!g_str_equal(words[0], commands[i].name)) {
            continue;
        }
        if (n < commands[i].min || n > commands[i].max) {
            error_setg(errp, "%s takes %d to %d words", words[0],
                       commands[i].min, commands[i].max);
            return NULL;
        }
        return commands[i].run(control, words + 1, errp);
    }
    error_setg(errp, "unknown command '%s'; see --help", n < 0 ? "" : words[0]);
    return NULL;
}

/* ---- connections --------------------------------------------------------- */

static void client_free(Client *client)
{
    g_source_remove(client->source);
    close(client->fd);
    g_string_free(client->input, true);
    g_free(client);
}

static bool answer(Client *client, const char *line)
{
    Error *err = NULL;
    g_autofree char *result = obey(client->control, line, &err);
    g_autofree char *reply = NULL;
    size_t len;

    if (err) {
        reply = g_strdup_printf("ERR %s\n", error_get_pretty(err));
        error_free(err);
    } else {
        reply = g_strdup_printf("OK %s\n", result);
    }
    len = strlen(reply);
    return send(client->fd, reply, len, MSG_NOSIGNAL) == len;
}

static bool answer_all(Client *client)
{
    char *end;

    while ((end = memchr(client->input->str, '\n', client->input->len))) {
        *end = '\0';
        if (!answer(client, client->input->str)) {
            return false;
        }
        g_string_erase(client->input, 0, end + 1 - client->input->str);
    }
    return client->input->len <= LINE_MAX_LEN;
}

static gboolean on_input(int fd, GIOCondition condition, void *opaque)
{
    Client *client = opaque;
    char buf[4096];
    ssize_t n = RETRY_ON_EINTR(recv(fd, buf, sizeof(buf), 0));

    if (n > 0) {
        g_string_append_len(client->input, buf, n);
        if (answer_all(client)) {
            return G_SOURCE_CONTINUE;
        }
    }
    client->control->clients = g_list_remove(client->control->clients, client);
    client_free(client);
    return G_SOURCE_CONTINUE;   /* it has been removed */
}

static gboolean on_connection(int fd, GIOCondition condition, void *opaque)
{
    SimControl *control = opaque;
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    Client *client;

    if (sock < 0) {
        return G_SOURCE_CONTINUE;
    }
    client = g_new0(Client, 1);
    client->control = control;
    client->fd = sock;
    client->input = g_string_new("");
    client->source = g_unix_fd_add(sock, G_IO_IN | G_IO_HUP, on_input, client);
    control->clients = g_list_prepend(control->clients, client);
    return G_SOURCE_CONTINUE;
}

SimControl *sim_control_new(const char *path, const GPtrArray *devices,
                            GMainLoop *quit, Error **errp)
{
    int fd = unix_listen(path, errp);
    SimControl *control;

    if (fd < 0) {
        error_prepend(errp, "--control: ");
        return NULL;
    }
    control = g_new0(SimControl, 1);
    control->path = g_strdup(path);
    control->devices = devices;
    control->quit = quit;
    control->listen_fd = fd;
    control->source = g_unix_fd_add(fd, G_IO_IN, on_connection, control);
    return control;
}

void sim_control_free(SimControl *control)
{
    if (!control) {
        return;
    }
    unlink(control->path);
    g_source_remove(control->source);
    close(control->listen_fd);
    g_list_free_full(control->clients, (GDestroyNotify)client_free);
    g_free(control->path);
    g_free(control);
}
