/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: devices in words
 */

#include "qemu/osdep.h"
#include <sys/un.h>
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "libvhost-user.h"
#include "device-spec.h"

#define COUNT_MAX 1024
#define DEFAULT_SIZE (64 * 1024 * 1024)
#define SIZE_MAX_BYTES (1ull << 44)

typedef struct Spec {
    SimDeviceConfig config;     /* strings are owned */
    uint64_t count;
    uint64_t n;                 /* queues, or pairs */
    bool latency_goes_on;       /* a comma may separate its entries, too */
} Spec;

typedef bool SetKey(Spec *spec, const char *key, const char *value,
                    Error **errp);

typedef struct Key {
    const char *name;
    unsigned types;             /* 1 << SimDeviceType, or'ed */
    SetKey *set;
} Key;

#define OF(type) (1u << SIM_DEVICE_##type)
#define OF_ALL (OF(NET) | OF(BLK) | OF(PROXY))

static const struct {
    const char *name;
    uint64_t mask;
} features[] = {
#define F(name) (1ull << VHOST_USER_PROTOCOL_F_##name)
    { "mq", F(MQ) },
    { "log", F(LOG_SHMFD) },
    { "reply-ack", F(REPLY_ACK) },
    /* The second and third are of no use without the first */
    { "backend-req", F(BACKEND_REQ) | F(BACKEND_SEND_FD) | F(HOST_NOTIFIER) },
    { "postcopy", F(PAGEFAULT) },
    { "config", F(CONFIG) },
    { "inflight", F(INFLIGHT_SHMFD) },
    { "mem-slots", F(CONFIGURE_MEM_SLOTS) },
#undef F
};

static bool get_number(const char *key, const char *value, uint64_t min,
                       uint64_t max, uint64_t *number, Error **errp)
{
    if (parse_uint_full(value, 10, number) || *number < min || *number > max) {
        error_setg(errp, "%s=%s: a number from %" PRIu64 " to %" PRIu64
                   " is expected", key, value, min, max);
        return false;
    }
    return true;
}

static bool get_choice(const char *key, const char *value, const char *yes,
                       const char *no, bool *choice, Error **errp)
{
    *choice = g_str_equal(value, yes);
    if (!*choice && !g_str_equal(value, no)) {
        error_setg(errp, "%s=%s: %s or %s is expected", key, value, yes, no);
        return false;
    }
    return true;
}

static bool set_count(Spec *spec, const char *key, const char *value,
                      Error **errp)
{
    return get_number(key, value, 1, COUNT_MAX, &spec->count, errp);
}

static bool set_queues(Spec *spec, const char *key, const char *value,
                       Error **errp)
{
    bool is_net = spec->config.type == SIM_DEVICE_NET;

    return get_number(key, value, 1, SIM_QUEUES_MAX / (is_net ? 2 : 1),
                      &spec->n, errp);
}

static bool set_path(Spec *spec, const char *key, const char *value,
                     Error **errp)
{
    char **path = g_str_equal(key, "file") ? &spec->config.file
                : g_str_equal(key, "listen") ? &spec->config.listen
                : &spec->config.connect;

    if (!value[0]) {
        error_setg(errp, "%s= needs a path", key);
        return false;
    }
    g_free(*path);
    *path = g_strdup(value);
    return true;
}

static bool set_size(Spec *spec, const char *key, const char *value,
                     Error **errp)
{
    if (qemu_strtosz(value, NULL, &spec->config.size) ||
        spec->config.size < 4096 || spec->config.size > SIZE_MAX_BYTES ||
        spec->config.size % 512) {
        error_setg(errp, "%s=%s: from 4k to 16T, in units of 512 bytes", key,
                   value);
        return false;
    }
    return true;
}

static bool set_frames(Spec *spec, const char *key, const char *value,
                       Error **errp)
{
    return get_choice(key, value, "drop", "reflect", &spec->config.drop, errp);
}

static bool set_latency(Spec *spec, const char *key, const char *value,
                        Error **errp)
{
    return sim_latency_parse(&spec->config.latency, value, errp);
}

static bool set_latency_mode(Spec *spec, const char *key, const char *value,
                             Error **errp)
{
    return sim_latency_mode_parse(value, &spec->config.latency.mode, errp);
}

static const Key keys[] = {
    { "count", OF_ALL, set_count },
    { "listen", OF_ALL, set_path },
    { "connect", OF_ALL, set_path },
    { "latency", OF_ALL, set_latency },
    { "latency-mode", OF_ALL, set_latency_mode },
    { "queue-pairs", OF(NET), set_queues },
    { "frames", OF(NET), set_frames },
    { "queues", OF(BLK), set_queues },
    { "size", OF(BLK), set_size },
    { "file", OF(BLK), set_path },
};

static bool set_feature(Spec *spec, int i, const char *value, Error **errp)
{
    bool on;

    if (!get_choice(features[i].name, value, "on", "off", &on, errp)) {
        return false;
    }
    if (on) {
        spec->config.without &= ~features[i].mask;
    } else {
        spec->config.without |= features[i].mask;
    }
    return true;
}

static bool set_key(Spec *spec, const char *key, const char *value,
                    Error **errp)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(features); i++) {
        if (g_str_equal(key, features[i].name)) {
            return set_feature(spec, i, value, errp);
        }
    }
    for (i = 0; i < ARRAY_SIZE(keys); i++) {
        if (g_str_equal(key, keys[i].name) &&
            keys[i].types & 1u << spec->config.type) {
            spec->latency_goes_on = keys[i].set == set_latency;
            return keys[i].set(spec, key, value, errp);
        }
    }
    error_setg(errp, "such a device has no '%s'; see --help", key);
    return false;
}

static bool parse_item(Spec *spec, const char *item, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(item, "=", 2);

    if (!parts[0] || !parts[1]) {
        if (spec->latency_goes_on && strchr(item, ':')) {
            return set_latency(spec, "latency", item, errp);
        }
        error_setg(errp, "'%s': KEY=VALUE is expected", item);
        return false;
    }
    spec->latency_goes_on = false;
    return set_key(spec, parts[0], parts[1], errp);
}

/* One that several devices would share */
static bool is_shared(const Spec *spec, const char *path, bool is_name)
{
    return spec->count > 1 && (path || is_name) &&
           !(path && strchr(path, '#'));
}

static bool is_too_long(const char *path)
{
    /* The digits of a device's number may replace a # */
    return path && strlen(path) + 4 > sizeof(((struct sockaddr_un *)0)
                                             ->sun_path);
}

static bool check(const Spec *spec, Error **errp)
{
    const SimDeviceConfig *config = &spec->config;
    bool is_proxy = config->type == SIM_DEVICE_PROXY;

    if (!config->name || !config->name[0] ||
        strpbrk(config->name, " *?=\t\n")) {
        error_setg(errp, "the name comes first: no '=', '*', '?', or space");
    } else if (is_proxy && !(config->listen && config->connect)) {
        error_setg(errp, "a proxy needs both listen= and connect=");
    } else if (!is_proxy && !config->listen == !config->connect) {
        error_setg(errp, "a device needs either listen= or connect=");
    } else if (is_too_long(config->listen) || is_too_long(config->connect)) {
        error_setg(errp, "the path of a socket has more than %zu characters",
                   sizeof(((struct sockaddr_un *)0)->sun_path) - 4);
    } else if (is_shared(spec, config->name, true) ||
               is_shared(spec, config->listen, false) ||
               is_shared(spec, config->connect, false) ||
               is_shared(spec, config->file, false)) {
        error_setg(errp, "with count=%" PRIu64 " the name and all paths need "
                   "a '#'", spec->count);
    } else {
        return true;
    }
    return false;
}

static char *numbered(const char *text, uint64_t i)
{
    g_autofree char *number = g_strdup_printf("%" PRIu64, i);
    g_auto(GStrv) parts = NULL;

    if (!text) {
        return NULL;
    }
    parts = g_strsplit(text, "#", -1);
    return g_strjoinv(number, parts);
}

static SimDeviceConfig *config_of(const Spec *spec, uint64_t i)
{
    SimDeviceConfig *config = g_new(SimDeviceConfig, 1);

    *config = spec->config;
    config->name = numbered(spec->config.name, i);
    config->listen = numbered(spec->config.listen, i);
    config->connect = numbered(spec->config.connect, i);
    config->file = numbered(spec->config.file, i);
    config->n_queues = config->type == SIM_DEVICE_NET ? 2 * spec->n
                     : config->type == SIM_DEVICE_BLK ? spec->n : 0;
    return config;
}

static bool parse(Spec *spec, const char *text, Error **errp)
{
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    int i;

    spec->config.name = g_strdup(items[0]);
    for (i = 1; items[0] && items[i]; i++) {
        if (!parse_item(spec, items[i], errp)) {
            return false;
        }
    }
    return check(spec, errp);
}

bool sim_device_spec_parse(SimDeviceType type, const char *text, GPtrArray *to,
                           Error **errp)
{
    Spec spec = {
        .config.type = type, .config.size = DEFAULT_SIZE,
        .config.without = type == SIM_DEVICE_PROXY ? 0
            : 1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
        .count = 1, .n = 1,
    };
    bool good = parse(&spec, text, errp);
    uint64_t i;

    for (i = 0; good && i < spec.count; i++) {
        g_ptr_array_add(to, config_of(&spec, i));
    }
    g_free(spec.config.name);
    g_free(spec.config.listen);
    g_free(spec.config.connect);
    g_free(spec.config.file);
    return good;
}
