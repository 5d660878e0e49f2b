/*
 * A return path with a socket of its own: the destination listens
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A newcomer is a connection that has not been found to belong to a migration
 * yet.  It says hello, and waits for the other one with the same token.  Nobody
 * waits for it: it has RETURN_PATH_PATIENCE_MS, and others come and go
 * meanwhile.
 *
 * All of it happens in the main context of the thread that executed the
 * command, which is the monitor's own one for an out-of-band migrate-recover:
 * the main thread may be waiting for a page then, with the BQL, and the page
 * can only come after the recovery.  So there are no coroutines, and none of
 * the main loop's timers and bottom halves.  But commands and the listen thread
 * may interfere: the lock protects everything, and what is done with a
 * connection that was identified is done after the lock is dropped.
 */

#include "qemu/osdep.h"
#include "io/net-listener.h"
#include "migration/channel.h"
#include "migration/multifd.h"
#include "migration/qemu-file.h"
#include "migration/return-path-internal.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "migration/tls.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "trace.h"

/* How a connection to the link's address is known by, at first */
#define LINK_NAME "migration-return-path-incoming"

/* Besides the further ones of multifd */
#define NEWCOMERS_MAX 8

/* A source that was refused may need so long to read why */
#define LINGER_MS 1000

/* What strangers did is said so often at most */
#define REPORT_INTERVAL_MS 1000

/* An ordinary migration begins with this */
#define STREAM_MAGIC 0x5145564d

typedef struct Newcomer Newcomer;
struct Newcomer {
    /* Set at creation */
    QIOChannel *bottom;         /* the socket, with TLS or without */
    bool on_link;               /* it came to the link's address */
    /* Under lock */
    bool gone;
    bool lingers;               /* it was refused */
    bool identified;
    QIOChannel *ioc;            /* NULL: TLS handshake */
    GSource *watch;
    GSource *timer;
    uint8_t buf[RETURN_PATH_HELLO_SIZE];
    size_t done;
    ReturnPathHello hello;
    QTAILQ_ENTRY(Newcomer) next;
};

/* Under lock, or atomic where it says so */
static struct {
    QemuMutex lock;
    bool given;                 /* atomic */
    bool main_listens;          /* for more than one connection */
    GMainContext *context;
    QIONetListener *listener;
    GSource *descriptor;        /* or the link's, before it says anything */
    QTAILQ_HEAD(, Newcomer) newcomers;
    unsigned count;
    bool paired;
    uint8_t token[RETURN_PATH_TOKEN_SIZE];
    int64_t reported_ms;
} lst = {
    .newcomers = QTAILQ_HEAD_INITIALIZER(lst.newcomers),
};

/* Goes to migration_channel_process_incoming() for good */
static __thread QIOChannel *passing;

static void __attribute__((constructor)) return_path_listen_init(void)
{
    qemu_mutex_init(&lst.lock);
}

static Newcomer *newcomer_ref(Newcomer *n)
{
    return g_atomic_rc_box_acquire(n);
}

static void newcomer_free(void *opaque)
{
    Newcomer *n = opaque;

    object_unref(OBJECT(n->ioc));
    object_unref(OBJECT(n->bottom));
}

static void newcomer_unref(void *opaque)
{
    g_atomic_rc_box_release_full(opaque, newcomer_free);
}

static void clear_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* Strangers are not to fill the log */
static void G_GNUC_PRINTF(1, 2) report(const char *fmt, ...)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    g_autofree char *text = NULL;
    va_list ap;

    if (lst.reported_ms && now - lst.reported_ms < REPORT_INTERVAL_MS) {
        return;
    }
    lst.reported_ms = now;
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_report("%s", text);
}

/* It is not waited for any more; what becomes of the connection is not said */
static void newcomer_remove(Newcomer *n)
{
    n->gone = true;
    clear_source(&n->watch);
    clear_source(&n->timer);
    QTAILQ_REMOVE(&lst.newcomers, n, next);
    lst.count--;
    newcomer_unref(n);
}

static void newcomer_close(Newcomer *n)
{
    qio_channel_shutdown(n->bottom, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    newcomer_remove(n);
}

static void newcomer_set_timer(Newcomer *n, unsigned ms, GSourceFunc func)
{
    clear_source(&n->timer);
    n->timer = g_timeout_source_new(ms);
    g_source_set_callback(n->timer, func, newcomer_ref(n), newcomer_unref);
    g_source_attach(n->timer, lst.context);
}

static void newcomer_watch(Newcomer *n, QIOChannelFunc func)
{
    clear_source(&n->watch);
    n->watch = qio_channel_add_watch_source(n->ioc, G_IO_IN | G_IO_HUP, func,
                                            newcomer_ref(n), newcomer_unref,
                                            lst.context);
}

/* A main channel that is no listening socket comes once, and no other after */
static void give_up_bh(void *opaque)
{
    g_autofree char *text = opaque;
    Error *err = NULL;

    error_setg(&err, "%s", text);
    return_path_fail_incoming(MIGRATION_STATUS_SETUP, err);
}

static void give_up_if_last(Newcomer *n, const char *text)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    if (!n->on_link && !lst.main_listens &&
        mis->state == MIGRATION_STATUS_SETUP) {
        migration_bh_schedule(give_up_bh, g_strdup(text));
    }
}

static gboolean newcomer_lingered(void *opaque)
{
    Newcomer *n = opaque;

    QEMU_LOCK_GUARD(&lst.lock);
    if (!n->gone) {
        newcomer_close(n);
    }
    return G_SOURCE_REMOVE;
}

/*
 * It has been told why.  A close with something unread would take that away
 * again, so it is left alone for a moment.
 */
static void newcomer_linger(Newcomer *n)
{
    n->lingers = true;
    clear_source(&n->watch);
    newcomer_set_timer(n, LINGER_MS, newcomer_lingered);
}

static void newcomer_send(Newcomer *n, const uint8_t *buf, size_t size)
{
    /* This is little, and the first: if it does not fit, it is not wanted */
    qio_channel_write(n->ioc, (const char *)buf, size, NULL);
}

static void newcomer_refuse(Newcomer *n, const char *text)
{
    uint8_t buf[RETURN_PATH_ANSWER_SIZE + RETURN_PATH_TEXT_MAX];

    trace_return_path_refused(text);
    report("Incoming migration: channel '%s' refused: %s",
           n->on_link ? "return-path" : "main", text);
    give_up_if_last(n, text);
    if (n->identified && n->hello.role == RETURN_PATH_ROLE_LINK) {
        newcomer_send(n, buf, return_path_encode_answer(text, buf));
        newcomer_linger(n);
    } else {
        newcomer_close(n);
    }
}

/* A source that was given no channel speaks the ordinary protocol */
static void newcomer_refuse_ordinary(Newcomer *n)
{
    static const char text[] = "the source was not given a channel "
                               "'return-path'; give it one, or none here";
    uint8_t buf[8];

    report("Incoming migration: %s", text);
    give_up_if_last(n, text);
    stw_be_p(buf, 1);                           /* MIG_RP_MSG_SHUT */
    stw_be_p(buf + 2, 4);
    stl_be_p(buf + 4, RETURN_PATH_SHUT_EXPECTED);
    newcomer_send(n, buf, sizeof(buf));
    newcomer_linger(n);
}

static gboolean newcomer_expired(void *opaque)
{
    Newcomer *n = opaque;

    QEMU_LOCK_GUARD(&lst.lock);
    if (n->gone) {
        return G_SOURCE_REMOVE;
    }
    if (!n->identified) {
        report("Incoming migration: a connection to channel '%s' said nothing "
               "for %d s", n->on_link ? "return-path" : "main",
               RETURN_PATH_PATIENCE_MS / 1000);
        give_up_if_last(n, "the channel 'main' was not used in time");
        newcomer_close(n);
    } else if (n->hello.role == RETURN_PATH_ROLE_LINK) {
        newcomer_refuse(n, "No channel 'main' of this migration came here in "
                        "time; both addresses must lead to the same "
                        "destination");
    } else {
        newcomer_refuse(n, "No channel 'return-path' of this migration came "
                        "here in time; both addresses must lead to the same "
                        "destination");
    }
    return G_SOURCE_REMOVE;
}

/*
 * Pairing
 */

/* What is done without the lock */
typedef struct Decision {
    QIOChannel *main;           /* or a further channel */
    QIOChannel *link;           /* NULL: further */
} Decision;

static void decide(Decision *d, Newcomer *main, Newcomer *link)
{
    d->main = main->ioc;
    object_ref(OBJECT(d->main));
    if (link) {
        memcpy(lst.token, main->hello.token, sizeof(lst.token));
        lst.paired = true;
        d->link = link->ioc;
        object_ref(OBJECT(d->link));
        newcomer_remove(link);
    }
    newcomer_remove(main);
}

static bool is_post_copy(MigrationStatus state)
{
    return state != MIGRATION_STATUS_SETUP && state != MIGRATION_STATUS_NONE &&
           migration_in_incoming_postcopy();
}

/* Why a migration, or a recovery, cannot begin; NULL: it can */
static const char *is_out_of_place(Newcomer *n)
{
    MigrationStatus state = migration_incoming_get_current()->state;
    bool resume = n->hello.flags & RETURN_PATH_FLAG_RESUME;

    if (resume && !is_post_copy(state)) {
        return "There is no paused post-copy here to be resumed";
    }
    if (!resume && is_post_copy(state)) {
        return "A post-copy is paused here; resume it, or use another "
               "destination";
    }
    if (!resume && lst.paired) {
        return "The destination already has a migration";
    }
    return NULL;
}

/* It stays where it is: the break that it is about may not be known yet */
static bool is_early(Newcomer *n)
{
    return n->hello.flags & RETURN_PATH_FLAG_RESUME &&
           migration_incoming_get_current()->state !=
           MIGRATION_STATUS_POSTCOPY_PAUSED;
}

static bool has_token(const Newcomer *n, const uint8_t *token)
{
    return !memcmp(n->hello.token, token, RETURN_PATH_TOKEN_SIZE);
}

static Newcomer *find_mate(Newcomer *n)
{
    Newcomer *mate;

    QTAILQ_FOREACH(mate, &lst.newcomers, next) {
        if (mate->identified && !mate->lingers &&
            mate->hello.role != n->hello.role &&
            mate->hello.role != RETURN_PATH_ROLE_FURTHER &&
            has_token(mate, n->hello.token)) {
            return mate;
        }
    }
    return NULL;
}

static void look_at(Newcomer *n, Decision *d)
{
    g_autofree char *differs = NULL;
    const char *text;
    Newcomer *mate;

    if (n->hello.role == RETURN_PATH_ROLE_FURTHER) {
        if (lst.paired && has_token(n, lst.token)) {
            decide(d, n, NULL);
        } else {
            newcomer_refuse(n, "it belongs to another migration");
        }
        return;
    }
    if (n->on_link != (n->hello.role == RETURN_PATH_ROLE_LINK)) {
        newcomer_refuse(n, "The addresses of 'main' and 'return-path' are "
                        "exchanged");
        return;
    }
    differs = return_path_compare_flags(n->hello.flags);
    text = differs ?: is_out_of_place(n);
    if (text) {
        newcomer_refuse(n, text);
        return;
    }
    mate = find_mate(n);
    if (mate && !is_early(n)) {
        decide(d, n->on_link ? mate : n, n->on_link ? n : mate);
    }
}

/* It is one of the migration's now */
static void hand_over(QIOChannel *ioc)
{
    return_path_make_exclusive(ioc);
    /* As it was accepted */
    qio_channel_set_blocking(ioc, true, NULL);
    passing = ioc;
    migration_channel_process_incoming(ioc);
    passing = NULL;
}

static bool welcome(QIOChannel *main, QIOChannel *link, Error **errp)
{
    uint8_t buf[RETURN_PATH_ANSWER_SIZE + RETURN_PATH_TEXT_MAX];
    size_t size = return_path_encode_answer(NULL, buf);
    ssize_t n;

    n = qio_channel_write(link, (char *)buf, size, errp);
    if (n != size) {
        if (n >= 0 || n == QIO_CHANNEL_ERR_BLOCK) {
            error_setg(errp, "the channel 'return-path' takes nothing");
        }
        return false;
    }
    qio_channel_set_delay(link, false);
    return_path_make_exclusive(link);
    return return_path_pair(main, link, errp);
}

static void act(Decision *d)
{
    Error *err = NULL;

    if (!d->main) {
        return;
    }
    if (d->link && !welcome(d->main, d->link, &err)) {
        error_reportf_err(err, "Incoming migration: ");
        qio_channel_shutdown(d->main, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        qio_channel_shutdown(d->link, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        WITH_QEMU_LOCK_GUARD(&lst.lock) {
            lst.paired = false;
        }
    } else {
        trace_return_path_paired(d->link != NULL);
        hand_over(d->main);
    }
    object_unref(OBJECT(d->main));
    object_unref(OBJECT(d->link));
}

/*
 * Hello
 */

/* Before it is welcome it has nothing to say: it ends */
static gboolean newcomer_leaves(QIOChannel *ioc, GIOCondition condition,
                                void *opaque)
{
    Newcomer *n = opaque;
    char byte;

    QEMU_LOCK_GUARD(&lst.lock);
    if (!n->gone && !n->lingers &&
        qio_channel_read(n->ioc, &byte, 1, NULL) != QIO_CHANNEL_ERR_BLOCK) {
        trace_return_path_left(n->hello.role);
        give_up_if_last(n, "the channel 'main' was closed");
        newcomer_close(n);
    }
    return G_SOURCE_CONTINUE;
}

static void identify(Newcomer *n, Decision *d)
{
    Error *err = NULL;

    if (ldl_be_p(n->buf) == STREAM_MAGIC && !n->on_link) {
        newcomer_refuse_ordinary(n);
    } else if (!return_path_decode_hello(&n->hello, n->buf, &err)) {
        newcomer_refuse(n, error_get_pretty(err));
        error_free(err);
    } else {
        trace_return_path_hello_received(n->hello.role, n->hello.flags);
        n->identified = true;
        newcomer_watch(n, newcomer_leaves);
        look_at(n, d);
    }
}

/* Is it enough to know that it is a stranger? */
static bool is_strange(const Newcomer *n)
{
    return n->done >= 4 && ldl_be_p(n->buf) != RETURN_PATH_HELLO_MAGIC;
}

static gboolean newcomer_ready(QIOChannel *ioc, GIOCondition condition,
                               void *opaque)
{
    Newcomer *n = opaque;
    Decision d = { NULL };
    ssize_t len = 0;

    WITH_QEMU_LOCK_GUARD(&lst.lock) {
        while (!n->gone && n->done < sizeof(n->buf) && !is_strange(n)) {
            /* With TLS, @ioc is what is below it */
            len = qio_channel_read(n->ioc, (char *)n->buf + n->done,
                                   sizeof(n->buf) - n->done, NULL);
            if (len <= 0) {
                break;
            }
            n->done += len;
        }
        if (n->gone || n->lingers || n->identified) {
            /* Somebody was faster */
        } else if (n->done == sizeof(n->buf) || is_strange(n)) {
            identify(n, &d);
        } else if (len != QIO_CHANNEL_ERR_BLOCK) {
            give_up_if_last(n, "the channel 'main' was closed");
            newcomer_close(n);
        }
    }
    act(&d);
    /* Destroyed if it is not needed any more */
    return G_SOURCE_CONTINUE;
}

static bool is_for_link(QIOChannel *bottom)
{
    return !g_strcmp0(bottom->name, LINK_NAME);
}

static Newcomer *find_bottom(QIOChannel *bottom)
{
    Newcomer *n;

    QTAILQ_FOREACH(n, &lst.newcomers, next) {
        if (n->bottom == bottom) {
            return n;
        }
    }
    return NULL;
}

static void make_room(void)
{
    unsigned max = NEWCOMERS_MAX +
                   (migrate_multifd() ? migrate_multifd_channels() : 0);
    Newcomer *n;

    QTAILQ_FOREACH(n, &lst.newcomers, next) {
        if (lst.count < max) {
            return;
        }
        if (!n->identified) {
            report("Incoming migration: too many connections, one is closed");
            newcomer_close(n);
            return;
        }
    }
}

static Newcomer *newcomer_new(QIOChannel *ioc)
{
    Newcomer *n;

    make_room();
    n = g_atomic_rc_box_new0(Newcomer);
    n->bottom = ioc;
    object_ref(OBJECT(ioc));
    n->on_link = is_for_link(ioc);
    QTAILQ_INSERT_TAIL(&lst.newcomers, n, next);
    lst.count++;
    newcomer_set_timer(n, RETURN_PATH_PATIENCE_MS, newcomer_expired);
    return n;
}

static void newcomer_listen_to(Newcomer *n, QIOChannel *ioc)
{
    Error *err = NULL;

    n->ioc = return_path_make_wakeable(ioc, &err);
    if (!n->ioc) {
        newcomer_refuse(n, error_get_pretty(err));
        error_free(err);
        return;
    }
    if (n->bottom == ioc) {
        /* What is to be shut down */
        object_unref(OBJECT(n->bottom));
        n->bottom = n->ioc;
        object_ref(OBJECT(n->bottom));
    }
    qio_channel_set_blocking(n->ioc, false, NULL);
    newcomer_watch(n, newcomer_ready);
}

bool return_path_take(QIOChannel *ioc)
{
    QIOChannel *bottom = migration_channel_below_tls(ioc);
    Newcomer *n;

    if (passing == ioc) {
        return false;
    }
    QEMU_LOCK_GUARD(&lst.lock);
    if (!lst.given) {
        /* It was accepted just before somebody stopped listening */
        return return_path_is_given_incoming() || is_for_link(bottom);
    }
    if (migrate_channel_requires_tls_upgrade(ioc)) {
        /* Or the handshake would keep the whole of this context waiting */
        qio_channel_set_blocking(ioc, false, NULL);
        newcomer_new(ioc);
        return false;
    }
    n = bottom == ioc ? newcomer_new(ioc) : find_bottom(bottom);
    if (n) {
        newcomer_listen_to(n, ioc);
    }
    /* If there is none, its time was over */
    return true;
}

void return_path_drop(QIOChannel *ioc)
{
    Newcomer *n;

    if (!qatomic_read(&lst.given)) {
        return;
    }
    QEMU_LOCK_GUARD(&lst.lock);
    n = find_bottom(migration_channel_below_tls(ioc));
    if (n) {
        give_up_if_last(n, "TLS handshake failed on the channel 'main'");
        newcomer_close(n);
    }
}

/*
 * What came before the pause may be used from now on.  This is done by the
 * listen thread: the main loop, where it came, may be waiting for a page.
 */
void return_path_look_again(void)
{
    Decision d = { NULL };
    Newcomer *n, *next;

    WITH_QEMU_LOCK_GUARD(&lst.lock) {
        QTAILQ_FOREACH_SAFE(n, &lst.newcomers, next, next) {
            if (n->identified && !n->lingers) {
                look_at(n, &d);
            }
            if (d.main) {
                break;
            }
        }
    }
    act(&d);
}

bool return_path_expects_resume(void)
{
    return qatomic_read(&lst.given) && migration_in_incoming_postcopy();
}

/*
 * Listening
 */

/* Is anybody waited for at the link's address? */
static bool is_awaited(void)
{
    QEMU_LOCK_GUARD(&lst.lock);
    return !lst.paired || return_path_expects_resume();
}

static void link_accepted(QIONetListener *listener, QIOChannelSocket *sioc,
                          void *opaque)
{
    if (!is_awaited()) {
        error_report("Extra connection to channel 'return-path'; ignoring");
        return;
    }
    qio_channel_set_name(QIO_CHANNEL(sioc), LINK_NAME);
    migration_channel_process_incoming(QIO_CHANNEL(sioc));
}

static gboolean link_spoke(QIOChannel *ioc, GIOCondition condition,
                           void *opaque)
{
    migration_channel_process_incoming(ioc);
    return G_SOURCE_REMOVE;
}

static bool listen_descriptor(const char *name, Error **errp)
{
    int fd = monitor_fd_param(monitor_cur(), name, errp);
    QIOChannelSocket *sioc = return_path_use_descriptor(fd, name, errp);

    if (!sioc) {
        return false;
    }
    qio_channel_set_name(QIO_CHANNEL(sioc), LINK_NAME);
    lst.descriptor = qio_channel_add_watch_source(QIO_CHANNEL(sioc), G_IO_IN,
                                                  link_spoke, NULL, NULL,
                                                  lst.context);
    object_unref(OBJECT(sioc));
    return true;
}

static bool listen_socket(SocketAddress *addr, Error **errp)
{
    QIONetListener *listener = qio_net_listener_new();

    qio_net_listener_set_name(listener, "migration-return-path-listener");
    if (qio_net_listener_open_sync(listener, addr, 1, errp) < 0) {
        object_unref(OBJECT(listener));
        return false;
    }
    lst.listener = listener;
    qio_net_listener_set_client_func_full(listener, link_accepted, NULL, NULL,
                                          lst.context);
    return true;
}

static bool is_listening(MigrationAddress *addr)
{
    return addr->transport == MIGRATION_ADDRESS_TYPE_SOCKET &&
           addr->u.socket.type != SOCKET_ADDRESS_TYPE_FD;
}

SocketAddressList *return_path_addresses(void)
{
    SocketAddressList *list = NULL, **tail = &list;
    size_t i;

    QEMU_LOCK_GUARD(&lst.lock);
    for (i = 0; lst.listener && i < lst.listener->nsioc; i++) {
        SocketAddress *addr =
            qio_channel_socket_get_local_address(lst.listener->sioc[i], NULL);

        if (addr) {
            QAPI_LIST_APPEND(tail, addr);
        }
    }
    return list;
}

bool return_path_is_listening(void)
{
    return qatomic_read(&lst.given);
}

bool return_path_listen(MigrationAddress *main, MigrationAddress *return_path,
                        Error **errp)
{
    SocketAddress *addr;
    bool ok;

    if (!return_path) {
        return true;
    }
    if (!return_path_check_incoming(main, return_path, errp)) {
        return false;
    }
    addr = &return_path->u.socket;
    WITH_QEMU_LOCK_GUARD(&lst.lock) {
        lst.context = g_main_context_get_thread_default() ?:
                      g_main_context_default();
        g_main_context_ref(lst.context);
        lst.main_listens = is_listening(main);
        lst.paired = false;
        qatomic_set(&lst.given, true);
        ok = addr->type == SOCKET_ADDRESS_TYPE_FD ?
             listen_descriptor(addr->u.fd.str, errp) :
             listen_socket(addr, errp);
    }
    if (!ok) {
        return_path_listen_end();
    }
    return ok;
}

void return_path_listen_end(void)
{
    QIONetListener *listener;
    Newcomer *n, *next;

    WITH_QEMU_LOCK_GUARD(&lst.lock) {
        listener = g_steal_pointer(&lst.listener);
        clear_source(&lst.descriptor);
        QTAILQ_FOREACH_SAFE(n, &lst.newcomers, next, next) {
            newcomer_close(n);
        }
        qatomic_set(&lst.given, false);
        g_clear_pointer(&lst.context, g_main_context_unref);
    }
    if (listener) {
        qio_net_listener_disconnect(listener);
        object_unref(OBJECT(listener));
    }
}
