/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: one QMP connection with deadlines
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "switchover/harness.h"
#include "switchover/monitor.h"

typedef struct SwEvent {
    QDict *event;
    int64_t when_us;
} SwEvent;

struct SwMonitor {
    /* Set at creation */
    char *name;
    int fd;
    GThread *reader;

    /* The reader's alone */
    GString *line;

    /* Under the lock */
    GMutex lock;
    GCond changed;
    GQueue messages;        /* greeting and responses, not yet taken */
    GPtrArray *events;      /* of SwEvent, all of them */
    unsigned first_event;   /* the ones before this were forgotten */
    bool closed;
};

static void event_free(void *opaque)
{
    SwEvent *event = opaque;

    qobject_unref(event->event);
    g_free(event);
}

static void take_in(SwMonitor *mon, const char *line)
{
    QDict *dict = qobject_to(QDict, qobject_from_json(line, &error_abort));
    SwEvent *event;

    g_mutex_lock(&mon->lock);
    if (qdict_haskey(dict, "event")) {
        event = g_new0(SwEvent, 1);
        event->event = dict;
        event->when_us = sw_now_us();
        g_ptr_array_add(mon->events, event);
    } else {
        g_queue_push_tail(&mon->messages, dict);
    }
    g_cond_broadcast(&mon->changed);
    g_mutex_unlock(&mon->lock);
}

static void *read_monitor(void *opaque)
{
    SwMonitor *mon = opaque;
    char buf[4096];
    ssize_t len, i;

    while ((len = RETRY_ON_EINTR(recv(mon->fd, buf, sizeof(buf), 0))) > 0) {
        for (i = 0; i < len; i++) {
            if (buf[i] == '\n') {
                take_in(mon, mon->line->str);
                g_string_truncate(mon->line, 0);
            } else {
                g_string_append_c(mon->line, buf[i]);
            }
        }
    }

    g_mutex_lock(&mon->lock);
    mon->closed = true;
    g_cond_broadcast(&mon->changed);
    g_mutex_unlock(&mon->lock);
    return NULL;
}

/* Called with the lock held; false if the deadline passed */
static bool wait_change(SwMonitor *mon, int64_t end_us)
{
    return g_cond_wait_until(&mon->changed, &mon->lock, end_us);
}

static QDict *take_message(SwMonitor *mon, const char *what)
{
    int64_t end_us = sw_now_us() + SW_WAIT_MS * 1000LL;
    QDict *message;

    g_mutex_lock(&mon->lock);
    while (g_queue_is_empty(&mon->messages) && !mon->closed) {
        SW_CHECK(wait_change(mon, end_us), "%s: no answer within %d ms to %s",
                 mon->name, SW_WAIT_MS, what);
    }
    message = g_queue_pop_head(&mon->messages);
    g_mutex_unlock(&mon->lock);
    return message;
}

SwMonitor *sw_monitor_new(int fd, const char *name, bool oob)
{
    SwMonitor *mon = g_new0(SwMonitor, 1);
    QDict *greeting;

    mon->name = g_strdup(name);
    mon->fd = fd;
    mon->line = g_string_new("");
    mon->events = g_ptr_array_new_with_free_func(event_free);
    g_mutex_init(&mon->lock);
    g_cond_init(&mon->changed);
    g_queue_init(&mon->messages);
    mon->reader = g_thread_new("monitor", read_monitor, mon);

    greeting = take_message(mon, "the connection");
    SW_CHECK(greeting && qdict_haskey(greeting, "QMP"),
             "%s: no greeting", name);
    qobject_unref(greeting);
    if (oob) {
        sw_qmp_ok(mon, "{ 'execute': 'qmp_capabilities',"
                  " 'arguments': { 'enable': [ 'oob' ] } }");
    } else {
        sw_qmp_ok(mon, "{ 'execute': 'qmp_capabilities' }");
    }
    return mon;
}

void sw_monitor_free(SwMonitor *mon)
{
    QDict *message;

    shutdown(mon->fd, SHUT_RDWR);
    g_thread_join(mon->reader);
    close(mon->fd);
    g_string_free(mon->line, true);
    g_ptr_array_free(mon->events, true);
    g_mutex_clear(&mon->lock);
    g_cond_clear(&mon->changed);
    while ((message = g_queue_pop_head(&mon->messages))) {
        qobject_unref(message);
    }
    g_free(mon->name);
    g_free(mon);
}

static bool send_text(SwMonitor *mon, const GString *text)
{
    return RETRY_ON_EINTR(send(mon->fd, text->str, text->len, MSG_NOSIGNAL)) ==
           text->len;
}

QDict *sw_vqmp_try(SwMonitor *mon, const char *fmt, va_list ap)
{
    QDict *cmd = qdict_from_vjsonf_nofail(fmt, ap);
    g_autoptr(GString) text = qobject_to_json(QOBJECT(cmd));

    qobject_unref(cmd);
    return send_text(mon, text) ? take_message(mon, text->str) : NULL;
}

static void *give_order(void *opaque)
{
    SwOrder *order = opaque;

    qobject_unref(sw_qmp_try(order->mon, "{ 'execute': %s }", order->name));
    return NULL;
}

void sw_order_begin(SwOrder *order, SwMonitor *mon, const char *name)
{
    *order = (SwOrder) { .mon = mon, .name = name };
    order->thread = g_thread_new("order", give_order, order);
}

void sw_order_end(SwOrder *order)
{
    g_thread_join(order->thread);
}

QDict *sw_qmp_pair_try(SwMonitor *mon, const char *first, const char *second)
{
    g_autoptr(GString) text = g_string_new(NULL);
    QDict *rsp;

    g_string_printf(text, "{ \"execute\": \"%s\" }{ \"execute\": \"%s\" }",
                    first, second);
    SW_CHECK(send_text(mon, text), "%s: QEMU closed the monitor", mon->name);
    rsp = take_message(mon, first);
    SW_CHECK(rsp && qdict_haskey(rsp, "return"), "%s: %s failed", mon->name,
             first);
    qobject_unref(rsp);
    return take_message(mon, second);
}

QDict *sw_qmp_try(SwMonitor *mon, const char *fmt, ...)
{
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    rsp = sw_vqmp_try(mon, fmt, ap);
    va_end(ap);
    return rsp;
}

G_GNUC_PRINTF(2, 0)
static QDict *vqmp_rsp(SwMonitor *mon, const char *fmt, va_list ap)
{
    QDict *rsp = sw_vqmp_try(mon, fmt, ap);

    SW_CHECK(rsp, "%s: QEMU closed the monitor", mon->name);
    if (!qdict_haskey(rsp, "return")) {
        g_autoptr(GString) text = qobject_to_json(QOBJECT(rsp));

        SW_FAIL("%s: %s: %s", mon->name, fmt, text->str);
    }
    return rsp;
}

QDict *sw_qmp_rsp(SwMonitor *mon, const char *fmt, ...)
{
    va_list ap;
    QDict *rsp;

    va_start(ap, fmt);
    rsp = vqmp_rsp(mon, fmt, ap);
    va_end(ap);
    return rsp;
}

QDict *sw_qmp(SwMonitor *mon, const char *fmt, ...)
{
    va_list ap;
    QDict *rsp, *ret;

    va_start(ap, fmt);
    rsp = vqmp_rsp(mon, fmt, ap);
    va_end(ap);

    ret = qdict_get_qdict(rsp, "return");
    SW_CHECK(ret, "%s: %s does not return an object", mon->name, fmt);
    qobject_ref(ret);
    qobject_unref(rsp);
    return ret;
}

void sw_qmp_ok(SwMonitor *mon, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    qobject_unref(vqmp_rsp(mon, fmt, ap));
    va_end(ap);
}

char *sw_qmp_error(SwMonitor *mon, const char *fmt, ...)
{
    va_list ap;
    QDict *rsp, *error;
    char *desc;

    va_start(ap, fmt);
    rsp = sw_vqmp_try(mon, fmt, ap);
    va_end(ap);

    SW_CHECK(rsp, "%s: QEMU closed the monitor", mon->name);
    error = qdict_get_qdict(rsp, "error");
    SW_CHECK(error, "%s: succeeds, which it must not: %s", mon->name, fmt);
    g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
    desc = g_strdup(qdict_get_str(error, "desc"));
    qobject_unref(rsp);
    return desc;
}

/* It goes with a blank, which QEMU skips; the command is about the latest */
void sw_monitor_give_fd(SwMonitor *mon, const char *name, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { .iov_base = (char *)" ", .iov_len = 1 };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof(control),
    };

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
    SW_CHECK(RETRY_ON_EINTR(sendmsg(mon->fd, &msg, MSG_NOSIGNAL)) == 1,
             "%s: cannot send a descriptor: %s", mon->name, strerror(errno));
    sw_qmp_ok(mon, "{ 'execute': 'getfd', 'arguments': { 'fdname': %s } }",
              name);
}

char *sw_hmp(SwMonitor *mon, const char *cmd)
{
    QDict *rsp = sw_qmp_rsp(mon, "{ 'execute': 'human-monitor-command',"
                            " 'arguments': { 'command-line': %s } }", cmd);
    char *output = g_strdup(qdict_get_str(rsp, "return"));

    qobject_unref(rsp);
    return output;
}

/* Called with the lock held */
static SwEvent *find_event(SwMonitor *mon, const char *name, unsigned nth)
{
    unsigned i;

    for (i = mon->first_event; i < mon->events->len; i++) {
        SwEvent *event = g_ptr_array_index(mon->events, i);

        if (g_str_equal(qdict_get_str(event->event, "event"), name) &&
            nth-- == 0) {
            return event;
        }
    }
    return NULL;
}

QDict *sw_event_wait(SwMonitor *mon, const char *name, unsigned nth,
                     int64_t *when_us)
{
    int64_t end_us = sw_now_us() + SW_WAIT_MS * 1000LL;
    SwEvent *event;

    g_mutex_lock(&mon->lock);
    while (!(event = find_event(mon, name, nth))) {
        SW_CHECK(!mon->closed, "%s: QEMU ended while %s was waited for",
                 mon->name, name);
        SW_CHECK(wait_change(mon, end_us), "%s: no %s (number %u) within %d ms",
                 mon->name, name, nth, SW_WAIT_MS);
    }
    g_mutex_unlock(&mon->lock);

    if (when_us) {
        *when_us = event->when_us;
    }
    return event->event;
}

unsigned sw_event_count(SwMonitor *mon, const char *name)
{
    unsigned n = 0;

    g_mutex_lock(&mon->lock);
    while (find_event(mon, name, n)) {
        n++;
    }
    g_mutex_unlock(&mon->lock);
    return n;
}

void sw_events_forget(SwMonitor *mon)
{
    g_mutex_lock(&mon->lock);
    mon->first_event = mon->events->len;
    g_mutex_unlock(&mon->lock);
}

/* Called with the lock held; *@last is the newest status heard, or NULL */
static SwEvent *find_status(SwMonitor *mon, const char *status,
                            const char **last)
{
    SwEvent *event;
    unsigned n;

    *last = NULL;
    for (n = 0; (event = find_event(mon, "MIGRATION", n)); n++) {
        QDict *data = qdict_get_qdict(event->event, "data");

        *last = qdict_get_str(data, "status");
        if (g_str_equal(*last, status)) {
            return event;
        }
    }
    return NULL;
}

static bool is_final(const char *status)
{
    return status && (g_str_equal(status, "completed") ||
                      g_str_equal(status, "failed") ||
                      g_str_equal(status, "cancelled"));
}

static SwEvent *status_wait(SwMonitor *mon, const char *status)
{
    int64_t end_us = sw_now_us() + SW_WAIT_MS * 1000LL;
    const char *last;
    SwEvent *event;

    g_mutex_lock(&mon->lock);
    while (!(event = find_status(mon, status, &last))) {
        SW_CHECK(!is_final(last), "%s: migration is '%s' instead of '%s'",
                 mon->name, last, status);
        SW_CHECK(!mon->closed, "%s: QEMU ended while migration was to be '%s'",
                 mon->name, status);
        SW_CHECK(wait_change(mon, end_us),
                 "%s: migration is '%s' and not '%s' after %d ms",
                 mon->name, last ?: "not begun", status, SW_WAIT_MS);
    }
    g_mutex_unlock(&mon->lock);
    return event;
}

int64_t sw_status_wait(SwMonitor *mon, const char *status)
{
    return status_wait(mon, status)->when_us;
}

QDict *sw_status_wait_event(SwMonitor *mon, const char *status)
{
    return status_wait(mon, status)->event;
}

int64_t sw_event_stamp_us(QDict *event)
{
    QDict *stamp = qdict_get_qdict(event, "timestamp");

    return qdict_get_int(stamp, "seconds") * G_USEC_PER_SEC +
           qdict_get_int(stamp, "microseconds");
}

bool sw_status_seen(SwMonitor *mon, const char *status)
{
    const char *last;
    bool seen;

    g_mutex_lock(&mon->lock);
    seen = find_status(mon, status, &last);
    g_mutex_unlock(&mon->lock);
    return seen;
}
