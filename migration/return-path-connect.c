/*
 * A return path with a socket of its own: the source connects
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One attempt at a time, in the main loop, in these steps, each of which ends
 * when the socket lets it:
 *
 *   say_hello_on_main()    the main channel is connected, and held back
 *   connect_link()
 *   secure_link()          TLS, with a session of its own
 *   say_hello_on_link()
 *   hear_answer()          welcome; or hear_reason(), refused
 *
 * A timer and migrate_cancel end it at any step.  Connecting and the TLS
 * handshake cannot be taken back: they hold a reference of the attempt, and
 * find it over.
 */

#include "qemu/osdep.h"
#include "crypto/random.h"
#include "io/channel-tls.h"
#include "migration/channel.h"
#include "migration/return-path-internal.h"
#include "migration/options.h"
#include "migration/tls.h"
#include "monitor/monitor.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-sockets.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/yank.h"
#include "trace.h"

typedef struct Attempt Attempt;
typedef void AttemptStep(Attempt *a);

struct Attempt {
    unsigned refs;
    bool over;
    MigrationState *s;
    ReturnPathHello hello;
    QIOChannel *main;
    QIOChannel *link;           /* with TLS: at first what is below it */
    QEMUTimer *timer;
    const char *doing;          /* for the message if there is no time left */

    /* What is being sent or received, and what is done then */
    QIOChannel *ioc;
    GIOCondition direction;
    uint8_t buf[RETURN_PATH_ANSWER_SIZE + RETURN_PATH_TEXT_MAX + 1];
    size_t done;
    size_t size;
    AttemptStep *next;
    GSource *watch;
};

/* All fields: BQL */
static struct {
    SocketAddress *addr;
    QIOChannelSocket *given;    /* the descriptor, if the address is one */
    Attempt *attempt;
    bool passing;               /* the main channel is given back */
} connecting;

static Attempt *attempt_ref(Attempt *a)
{
    a->refs++;
    return a;
}

static void attempt_unref(void *opaque)
{
    Attempt *a = opaque;

    assert(bql_locked());
    if (--a->refs == 0) {
        object_unref(OBJECT(a->main));
        object_unref(OBJECT(a->link));
        g_free(a);
    }
}

static void attempt_unwatch(Attempt *a)
{
    if (a->watch) {
        g_source_destroy(a->watch);
        g_clear_pointer(&a->watch, g_source_unref);
    }
}

/* Nothing is done for it any more; who waits inside of a channel is woken up */
static void attempt_end(Attempt *a, bool welcome)
{
    assert(connecting.attempt == a);
    a->over = true;
    connecting.attempt = NULL;
    timer_free(a->timer);
    attempt_unwatch(a);
    if (!welcome) {
        if (a->link) {
            qio_channel_shutdown(a->link, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        }
        qio_channel_shutdown(a->main, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        /* A command that nobody waits for stays a zombie */
        qio_channel_close(a->main, NULL);
    }
    attempt_unref(a);
}

/* Takes @err, NULL: welcome */
static void give_back(MigrationState *s, QIOChannel *main, Error *err)
{
    connecting.passing = true;
    migration_channel_connect(s, main, NULL, err);
    connecting.passing = false;
}

/* As above */
static void attempt_conclude(Attempt *a, Error *err)
{
    attempt_ref(a);
    attempt_end(a, !err);
    trace_return_path_connect_end(err ? error_get_pretty(err) : "welcome");

    give_back(a->s, a->main, err);
    attempt_unref(a);
}

static void attempt_expired(void *opaque)
{
    Attempt *a = opaque;
    Error *err = NULL;

    error_setg(&err, "The destination did not answer on the channel "
               "'return-path' within %d s (%s); give migrate-incoming the same "
               "channels", RETURN_PATH_CONNECT_MS / 1000, a->doing);
    attempt_conclude(a, err);
}

static ssize_t attempt_try(Attempt *a, Error **errp)
{
    char *buf = (char *)a->buf + a->done;
    size_t left = a->size - a->done;
    ssize_t n;

    if (a->direction == G_IO_OUT) {
        return qio_channel_write(a->ioc, buf, left, errp);
    }
    n = qio_channel_read(a->ioc, buf, left, errp);
    if (!n) {
        error_setg(errp, "the destination hung up");
        return -1;
    }
    return n;
}

static gboolean attempt_transfer(QIOChannel *ioc, GIOCondition condition,
                                 void *opaque);

static void attempt_watch(Attempt *a)
{
    a->watch = qio_channel_add_watch_source(a->ioc, a->direction,
                                            attempt_transfer, attempt_ref(a),
                                            attempt_unref, NULL);
}

static gboolean attempt_transfer(QIOChannel *ioc, GIOCondition condition,
                                 void *opaque)
{
    Attempt *a = opaque;
    Error *err = NULL;
    ssize_t n = 0;

    while (!a->over && a->done < a->size) {
        n = attempt_try(a, &err);
        if (n <= 0) {
            break;
        }
        a->done += n;
    }
    if (a->over) {
        return G_SOURCE_REMOVE;
    }
    if (a->done == a->size) {
        attempt_unwatch(a);
        a->next(a);
        return G_SOURCE_REMOVE;
    }
    if (n == QIO_CHANNEL_ERR_BLOCK) {
        if (!a->watch) {
            attempt_watch(a);
        }
        return G_SOURCE_CONTINUE;
    }
    error_prepend(&err, "Channel '%s' broke while connecting (%s): ",
                  a->ioc == a->main ? "main" : "return-path", a->doing);
    attempt_conclude(a, err);
    return G_SOURCE_REMOVE;
}

/* What is in buf is sent, or @size bytes are received there; then @next */
static void attempt_begin(Attempt *a, QIOChannel *ioc, GIOCondition direction,
                          size_t size, AttemptStep *next)
{
    a->ioc = ioc;
    a->direction = direction;
    a->done = 0;
    a->size = size;
    a->next = next;
    attempt_ref(a);
    attempt_transfer(ioc, direction, a);
    attempt_unref(a);
}

static void hear_end_of_reason(Attempt *a)
{
    Error *err = NULL;

    a->buf[a->size] = '\0';
    error_setg(&err, "The destination refused the channel 'return-path': %s",
               a->buf);
    attempt_conclude(a, err);
}

static void hear_answer(Attempt *a)
{
    Error *err = NULL;
    bool refused;
    size_t length;

    if (!return_path_decode_answer(a->buf, &refused, &length, &err)) {
        attempt_conclude(a, err);
    } else if (refused) {
        attempt_begin(a, a->link, G_IO_IN, length, hear_end_of_reason);
    } else {
        return_path_welcomed(a->link, &a->hello);
        attempt_conclude(a, NULL);
    }
}

static void wait_for_answer(Attempt *a)
{
    a->doing = "waiting for its answer";
    attempt_begin(a, a->link, G_IO_IN, RETURN_PATH_ANSWER_SIZE, hear_answer);
}

static void say_hello(Attempt *a, QIOChannel *ioc, ReturnPathRole role,
                      AttemptStep *next)
{
    qio_channel_set_blocking(ioc, false, NULL);
    a->hello.role = role;
    return_path_encode_hello(&a->hello, a->buf);
    trace_return_path_hello_sent(role, a->hello.flags);
    attempt_begin(a, ioc, G_IO_OUT, RETURN_PATH_HELLO_SIZE, next);
}

static void link_secured(QIOTask *task, void *opaque)
{
    Attempt *a = opaque;
    Error *err = NULL;

    if (a->over) {
        return;
    }
    if (qio_task_propagate_error(task, &err)) {
        error_prepend(&err, "Channel 'return-path': ");
        attempt_conclude(a, err);
        return;
    }
    return_path_make_exclusive(a->link);
    say_hello(a, a->link, RETURN_PATH_ROLE_LINK, wait_for_answer);
}

/* The certificate is that of where the link leads to */
static const char *link_hostname(void)
{
    SocketAddress *addr = connecting.addr;

    return addr->type == SOCKET_ADDRESS_TYPE_INET ? addr->u.inet.host : NULL;
}

static void secure_link(Attempt *a)
{
    QIOChannelTLS *tls;
    Error *err = NULL;

    qio_channel_set_delay(a->link, false);
    if (!migrate_channel_requires_tls_upgrade(a->link)) {
        say_hello(a, a->link, RETURN_PATH_ROLE_LINK, wait_for_answer);
        return;
    }
    a->doing = "TLS handshake";
    tls = migration_tls_client_create(a->link, link_hostname(), &err);
    if (!tls) {
        attempt_conclude(a, err);
        return;
    }
    object_unref(OBJECT(a->link));
    a->link = QIO_CHANNEL(tls);
    qio_channel_set_name(a->link, "migration-tls-return-path");
    /* Or the handshake would keep the main loop waiting */
    qio_channel_set_blocking(a->link, false, NULL);
    qio_channel_tls_handshake(tls, link_secured, attempt_ref(a), attempt_unref,
                              NULL);
}

static void link_connected(QIOTask *task, void *opaque)
{
    Attempt *a = opaque;
    Error *err = NULL;

    if (a->over) {
        return;
    }
    if (qio_task_propagate_error(task, &err)) {
        error_prepend(&err, "Cannot connect channel 'return-path': ");
        attempt_conclude(a, err);
        return;
    }
    secure_link(a);
}

static void connect_link(Attempt *a)
{
    a->doing = "connecting";
    if (connecting.given) {
        a->link = QIO_CHANNEL(g_steal_pointer(&connecting.given));
        secure_link(a);
        return;
    }
    a->link = QIO_CHANNEL(qio_channel_socket_new());
    qio_channel_set_name(a->link, "migration-return-path");
    qio_channel_socket_connect_async(QIO_CHANNEL_SOCKET(a->link),
                                     connecting.addr, link_connected,
                                     attempt_ref(a), attempt_unref, NULL);
}

static Attempt *attempt_new(MigrationState *s, QIOChannel *main, Error **errp)
{
    Attempt *a = g_new0(Attempt, 1);

    a->refs = 1;
    a->s = s;
    a->main = main;
    object_ref(OBJECT(main));
    a->doing = "saying hello";
    a->hello.flags = return_path_flags();
    if (s->state == MIGRATION_STATUS_POSTCOPY_RECOVER_SETUP) {
        a->hello.flags |= RETURN_PATH_FLAG_RESUME;
    }
    if (qcrypto_random_bytes(a->hello.token, sizeof(a->hello.token),
                             errp) < 0) {
        attempt_unref(a);
        return NULL;
    }
    a->timer = timer_new_ms(QEMU_CLOCK_REALTIME, attempt_expired, a);
    timer_mod(a->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                        RETURN_PATH_CONNECT_MS);
    return a;
}

bool return_path_suits(QIOChannel *ioc, Error **errp)
{
    if (return_path_is_given() && migrate_tls() &&
        return_path_is_one_way(ioc)) {
        error_setg(errp, "TLS needs a channel 'main' in both directions: "
                   "encrypt beyond the pipe, and unset 'tls-creds'");
        return false;
    }
    return true;
}

static void begin(MigrationState *s, QIOChannel *ioc, Error **errp)
{
    QIOChannel *main = return_path_make_wakeable(ioc, errp);
    Attempt *a;

    if (!main) {
        return;
    }
    return_path_make_exclusive(main);
    a = attempt_new(s, main, errp);
    object_unref(OBJECT(main));
    if (a) {
        connecting.attempt = a;
        say_hello(a, a->main, RETURN_PATH_ROLE_MAIN, connect_link);
    }
}

bool return_path_connect(MigrationState *s, QIOChannel *ioc)
{
    Error *err = NULL;

    assert(bql_locked());
    if (!return_path_is_given() || connecting.passing) {
        return false;
    }
    assert(!connecting.attempt);
    begin(s, ioc, &err);
    if (err) {
        give_back(s, ioc, err);
    }
    return true;
}

static void forget_address(void)
{
    g_clear_pointer(&connecting.addr, qapi_free_SocketAddress);
    if (connecting.given) {
        object_unref(OBJECT(connecting.given));
        connecting.given = NULL;
    }
}

void return_path_connect_end(void)
{
    assert(bql_locked());
    if (connecting.attempt) {
        attempt_end(connecting.attempt, false);
    }
    return_path_forget_link();
    forget_address();
}

void return_path_cancel(void)
{
    bool connects = connecting.attempt;

    return_path_connect_end();
    if (connects) {
        /* As migration_connecting_forget() does for the main channel */
        yank_unregister_instance(MIGRATION_YANK_INSTANCE);
    }
}

/* Only who executes the command knows whose descriptor it is */
static bool claim_descriptor(const char *name, Error **errp)
{
    int fd = monitor_get_fd(monitor_cur(), name, errp);

    connecting.given = return_path_use_descriptor(fd, name, errp);
    if (!connecting.given) {
        return false;
    }
    qio_channel_set_name(QIO_CHANNEL(connecting.given),
                         "migration-return-path");
    return true;
}

bool return_path_prepare(MigrationAddress *addr, Error **errp)
{
    assert(bql_locked());
    return_path_set_given(addr);
    forget_address();
    if (!addr) {
        return true;
    }
    connecting.addr = QAPI_CLONE(SocketAddress, &addr->u.socket);
    return connecting.addr->type != SOCKET_ADDRESS_TYPE_FD ||
           claim_descriptor(connecting.addr->u.fd.str, errp);
}
